// All input checks of the operators, for all devices.

#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "common/limits.h"

namespace simclr {

// The dtype to compute the loss in: float for half types.
inline at::ScalarType compute_dtype(const at::Tensor& z0) {
  return z0.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// bfloat16, float16, float and double: no eight-bit types.
inline void check_dtype(const char* name, const at::Tensor& values) {
  const at::ScalarType dtype = values.scalar_type();
  TORCH_CHECK_TYPE(
      dtype == at::kDouble || dtype == at::kFloat || dtype == at::kBFloat16 || dtype == at::kHalf,
      name, " must be float64, float32, bfloat16 or float16, got ", values.dtype());
}

// A tensor's storage may be smaller than its shape says: FSDP gives it back between uses.
inline void check_data(const char* name, const at::Tensor& values) {
  const size_t needed = at::detail::computeStorageNbytes(
      values.sizes(), values.strides(), values.itemsize(), values.storage_offset());
  TORCH_CHECK_VALUE(needed <= values.storage().nbytes(), name, " must have data, got shape ",
                    values.sizes(), " and a storage of ", values.storage().nbytes(), " bytes");
}

inline void check_views(const at::Tensor& z0, const at::Tensor& z1) {
  TORCH_CHECK_VALUE(z0.dim() == 2 && z0.size(0) >= 1 && z0.size(1) >= 1,
                    "z0 must be [N, D] with N >= 1 and D >= 1, got shape ", z0.sizes());
  TORCH_CHECK_VALUE(z1.sizes() == z0.sizes(), "z1 must have the shape of z0, ", z0.sizes(),
                    ", got ", z1.sizes());
  check_dtype("z0", z0);
  check_data("z0", z0);
  check_data("z1", z1);
  TORCH_CHECK_TYPE(z1.scalar_type() == z0.scalar_type(), "z1 must have the dtype of z0, ",
                   z0.dtype(), ", got ", z1.dtype());
  TORCH_CHECK_VALUE(z1.device() == z0.device(), "z1 must be on the device of z0, ", z0.device(),
                    ", got ", z1.device());
}

inline void check_scalar_type(const char* name, const at::Tensor& scalar) {
  TORCH_CHECK_VALUE(scalar.dim() == 0, name, " must be 0-d, got shape ", scalar.sizes());
  TORCH_CHECK_TYPE(scalar.scalar_type() == at::kDouble, name, " must be float64, got ",
                   scalar.dtype());
  check_data(name, scalar);
}

// Returns the value of a 0-d tensor, which must be in host memory, so that reading it does not
// synchronize with a device.
inline double read_scalar(const char* name, const at::Tensor& scalar) {
  check_scalar_type(name, scalar);
  TORCH_CHECK_VALUE(scalar.device().is_cpu(), name, " must be on the CPU, got ", scalar.device());
  return *scalar.const_data_ptr<double>();
}

inline double check_scalar(const char* name, const at::Tensor& scalar) {
  const double value = read_scalar(name, scalar);
  TORCH_CHECK_VALUE(std::isfinite(value), name, " must be finite, got ", value);
  return value;
}

inline double check_scale(const char* name, const at::Tensor& scalar) {
  const double value = read_scalar(name, scalar);
  TORCH_CHECK_VALUE(std::isfinite(value) && value > 0, name, " must be positive and finite, got ",
                    value);
  TORCH_CHECK_VALUE(kSmallestScale <= value && value <= kLargestScale, name, " must be from ",
                    kSmallestScale, " to ", kLargestScale, ", got ", value);
  return value;
}

inline double check_temperature(const at::Tensor& temperature) {
  return check_scale("temperature", temperature);
}

inline void check_eps(double eps) {
  // The reciprocal of anything smaller overflows float.
  constexpr double kSmallest = std::numeric_limits<float>::min();
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps >= kSmallest, "eps must be at least ", kSmallest,
                    " and finite, got ", eps);
}

// x [R, D] and, if given, y [C, D].
inline void check_sides(const at::Tensor& x, const std::optional<at::Tensor>& y) {
  check_dtype("x", x);
  TORCH_CHECK_VALUE(x.dim() == 2 && x.size(0) >= 1 && x.size(1) >= 1,
                    "x must be [R, D] with R >= 1 and D >= 1, got shape ", x.sizes());
  check_data("x", x);
  if (!y) return;
  TORCH_CHECK_VALUE(y->dim() == 2 && y->size(0) >= 1 && y->size(1) == x.size(1), "y must be [C, ",
                    x.size(1), "] with C >= 1, got shape ", y->sizes());
  TORCH_CHECK_TYPE(y->scalar_type() == x.scalar_type(), "y must have the dtype of x, ", x.dtype(),
                   ", got ", y->dtype());
  TORCH_CHECK_VALUE(y->device() == x.device(), "y must be on the device of x, ", x.device(),
                    ", got ", y->device());
  check_data("y", *y);
}

inline void check_number_of_row(const char* name, const at::Tensor& values, const at::Tensor& z) {
  check_dtype(name, values);
  check_data(name, values);
  TORCH_CHECK_VALUE(values.device() == z.device(), name, " must be on the device of z, ",
                    z.device(), ", got ", values.device());
}

// Checks that there is one number for each row of z; `count` is the name of the number of rows.
inline void check_saved_row(const char* name, const at::Tensor& values, const at::Tensor& z,
                            const char* count) {
  TORCH_CHECK_VALUE(values.dim() == 1 && values.size(0) == z.size(0), name, " must be [", count,
                    "] = [", z.size(0), "], got shape ", values.sizes());
  check_number_of_row(name, values, z);
}

// Checks what the forward pass saved and the gradient of its losses.
inline void check_saved(const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse,
                        const at::Tensor& z, const at::Tensor& inv_norm, int64_t dim,
                        const char* count) {
  TORCH_CHECK_VALUE(z.dim() == 2 && z.size(0) >= 1 && z.size(1) >= 1, "z must be [", count,
                    ", D] with rows and D >= 1, got shape ", z.sizes());
  TORCH_CHECK_VALUE(1 <= dim && dim <= z.size(1), "dim must be 1 to ", z.size(1),
                    ", the columns of z, got ", dim);
  check_data("z", z);
  const int64_t rows = z.size(0);
  check_saved_row("grad_loss", grad_loss, z, count);
  check_saved_row("loss", loss, z, count);
  check_saved_row("lse", lse, z, count);
  TORCH_CHECK_TYPE(lse.scalar_type() == at::kDouble, "lse must be float64, got ", lse.dtype());
  TORCH_CHECK_VALUE(inv_norm.dim() == 1 && (inv_norm.size(0) == rows || inv_norm.size(0) == 0),
                    "inv_norm must be [", count, "] = [", rows, "] or [0], got shape ",
                    inv_norm.sizes());
  check_number_of_row("inv_norm", inv_norm, z);
  TORCH_CHECK_TYPE(inv_norm.scalar_type() == loss.scalar_type(),
                   "inv_norm must have the dtype of loss, ", loss.dtype(), ", got ",
                   inv_norm.dtype());
}

// Checks what the forward pass of the sigmoid loss saved, and the gradient of its R losses.
inline void check_sigmoid_saved(const at::Tensor& grad_loss, const at::Tensor& z,
                                const at::Tensor& inv_norm, int64_t dim) {
  check_dtype("z", z);
  TORCH_CHECK_VALUE(z.dim() == 2 && z.size(0) >= 2 && z.size(1) >= 1,
                    "z must be [R + C, D] with R, C and D >= 1, got shape ", z.sizes());
  TORCH_CHECK_VALUE(1 <= dim && dim <= z.size(1), "dim must be 1 to ", z.size(1),
                    ", the columns of z, got ", dim);
  check_data("z", z);
  TORCH_CHECK_VALUE(grad_loss.dim() == 1 && 1 <= grad_loss.size(0) && grad_loss.size(0) < z.size(0),
                    "grad_loss must be [R] with 1 <= R < ", z.size(0), ", got shape ",
                    grad_loss.sizes());
  check_number_of_row("grad_loss", grad_loss, z);
  TORCH_CHECK_VALUE(inv_norm.dim() == 1 && (inv_norm.size(0) == z.size(0) || inv_norm.size(0) == 0),
                    "inv_norm must be [rows] = [", z.size(0), "] or [0], got shape ",
                    inv_norm.sizes());
  check_number_of_row("inv_norm", inv_norm, z);
  TORCH_CHECK_TYPE(inv_norm.scalar_type() == compute_dtype(z), "inv_norm must be ",
                   compute_dtype(z), " for z of ", z.dtype(), ", got ", inv_norm.dtype());
}

// Checks that saved rows are those of N pairs.
inline void check_pairs(const at::Tensor& z) {
  TORCH_CHECK_VALUE(z.dim() == 2 && z.size(0) >= 2 && z.size(0) % 2 == 0,
                    "z must be [2N, D] with N >= 1 and D >= 1, got shape ", z.sizes());
}

// Checks that z has at least the R rows of x; the others are those of y.
inline void check_side(const at::Tensor& z, int64_t rows) {
  TORCH_CHECK_VALUE(1 <= rows && rows <= z.size(0), "rows must be 1 to ", z.size(0),
                    ", the rows of z, got ", rows);
}

// Checks that saved rows are stored without padding.
inline void check_unpadded(const at::Tensor& z, int64_t dim) {
  TORCH_CHECK_VALUE(dim == z.size(1), "z must be [rows, D] with D = dim = ", dim, ", got shape ",
                    z.sizes());
}

// Checks that rows are as join_rows of the CPU stores them, for results of that dtype.
inline void check_stored(const at::Tensor& z, at::ScalarType compute_dtype) {
  const bool half = z.scalar_type() == at::kBFloat16 && compute_dtype == at::kFloat;
  TORCH_CHECK_TYPE(z.scalar_type() == compute_dtype || half, "z must have the dtype of loss, ",
                   compute_dtype, compute_dtype == at::kFloat ? ", or be bfloat16" : "", ", got ",
                   z.dtype());
}

}  // namespace simclr
