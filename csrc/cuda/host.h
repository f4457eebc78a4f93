// What the passes do before they launch kernels.

#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

#include <numbers>
#include <tuple>

#include "checks.h"
#include "common/limits.h"
#include "common/torch_compat.h"
#include "cuda/kernels.h"
#include "cuda/products.h"
#include "cuda/stream.h"
#include "operands.h"

namespace simclr::fused {

inline const Kernels& kernels_for(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return kBf16Kernels;
  if (dtype == at::kHalf) return kFp16Kernels;
  TORCH_CHECK_TYPE(dtype == at::kFloat,
                   "the fused CUDA kernels take float32, bfloat16 or float16, got ", dtype,
                   "; the tiled backend takes it");
  return matmul_may_use_tf32() ? kTf32Kernels : kTf32x3Kernels;
}

// 1 / eps, computed once: the backward pass compares it with what the forward pass has stored.
inline float inverse(double eps) { return 1.0f / static_cast<float>(eps); }

// Checks a 0-d number of the rows `z`, which may be on their device.
inline Scalar make_scalar(const char* name, const at::Tensor& scalar, const at::Tensor& z,
                          double (*check)(const char* name, const at::Tensor& scalar)) {
  if (!in_device_memory(scalar)) return {nullptr, check(name, scalar)};
  check_scalar_type(name, scalar);
  TORCH_CHECK_VALUE(scalar.device() == z.device(), name, " must be on the CPU or on ", z.device(),
                    ", got ", scalar.device());
  return {scalar.const_data_ptr<double>(), 0};
}

// The exponents of a pass, and the memory of their scale, if the device computes it.
struct ExponentsOfPass {
  // may_share: whether the rows may share a shift, if the temperature allows it.
  ExponentsOfPass(const at::Tensor& temperature, const at::Tensor& z, bool may_share) {
    value.temperature = make_scalar("temperature", temperature, z, check_scale);
    if (value.temperature.address == nullptr) {
      value.known_scale = static_cast<float>(std::numbers::log2e / value.temperature.value);
      value.shared_shift = may_share && value.known_scale <= kLargestSharedScale;
    } else {
      scale = at::empty({1}, z.options().dtype(at::kFloat));
      value.stored_scale = scale.mutable_data_ptr<float>();
      value.undecided = may_share && !is_wide(z.size(1));  // see run_wide_pass
    }
  }
  Exponents value;
  at::Tensor scale;
};

// With labels rows share no shift: a kernel that multiplies and sums for both sides at once has no
// registers left for them.
inline bool may_share_shift(const Operands& operands, bool normalized, int64_t dim) {
  return normalized && (!operands.label().defined() || is_wide(dim));
}

// The number of elements of a stored row: D, padded with zeros to whole units, which the kernels
// copy. The padding is part of the tensor z, so that a copy of z also has zeros there.
inline int64_t padded(int64_t dim, const at::Tensor& z) {
  const int64_t unit = kUnitBytes / z.element_size();
  return divide_up(dim, unit) * unit;
}

// Returns the rows as the kernels copy them: contiguous and aligned to 16 bytes. Only tensors that
// were copied or sliced in between are not.
inline at::Tensor in_units(const at::Tensor& z) {
  const at::Tensor contiguous = z.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr());
  return address % kUnitBytes == 0 ? contiguous : contiguous.clone();
}

// z: [count, padded(dim)], contiguous.
inline Rows make_rows(const at::Tensor& z, int64_t dim, const float* factor) {
  return {.z = z.const_data_ptr(),
          .factor = factor,
          .dim = static_cast<int>(dim),
          .stride = static_cast<int>(z.size(1))};
}

// z: of the dtype of the rows.
inline void check_size(int64_t rows, const at::Tensor& z, int64_t dim) {
  if (is_wide(dim)) check_wide_dtype(z.scalar_type());
  TORCH_CHECK_VALUE(rows <= kMaxRows, "the fused CUDA kernels take ", kMaxRows,
                    " rows of both sides, got ", rows);
}

// Checks that saved rows have the layout of `padded`.
inline void check_layout(const at::Tensor& z, int64_t dim) {
  check_size(z.size(0), z, dim);
  TORCH_CHECK_VALUE(z.size(1) == padded(dim, z), "z must be [rows, ", padded(dim, z),
                    "], D = ", dim, " padded to 16 bytes, got shape ", z.sizes());
}

// Stores x [R, D] and y [C, D] (may be undefined) as the kernels take them, and the scale of the
// exponents if they have memory for it. Returns z, factor and inv_norm.
inline std::tuple<at::Tensor, at::Tensor, at::Tensor> join_rows(
    const at::Tensor& x, const at::Tensor& y, bool normalize, double eps,
    const Exponents& exponents, const Kernels& kernels, Stream stream) {
  const at::Tensor& second = y.defined() ? y : x;  // if x, none of its rows are used
  const int64_t count = x.size(0) + (y.defined() ? y.size(0) : 0);
  const int64_t dim = x.size(1);
  const auto floats = x.options().dtype(at::kFloat);
  const at::Tensor z = at::empty({count, padded(dim, x)}, x.options());
  const at::Tensor factor = at::empty({count}, floats);
  const at::Tensor inv_norm = at::empty({normalize ? count : 0}, floats);
  const auto prepare = is_wide(dim) ? kernels.wide_prepare : kernels.prepare;
  prepare({.side = {x.const_data_ptr(), second.const_data_ptr()},
           .row_stride = {x.stride(0), second.stride(0)},
           .column_stride = {x.stride(1), second.stride(1)},
           .rows = static_cast<int>(x.size(0)),
           .count = static_cast<int>(count),
           .dim = static_cast<int>(dim),
           .stride = static_cast<int>(z.size(1)),
           .normalize = normalize,
           .inv_eps = inverse(eps),
           .exponents = exponents,
           .z = z.mutable_data_ptr(),
           .factor = factor.mutable_data_ptr<float>(),
           .inv_norm = inv_norm.mutable_data_ptr<float>()},
          stream);
  return {z, factor, inv_norm};
}

// How many positives each row of z has by labels, [count] int32; undefined without labels.
inline at::Tensor count_label_positives(const Operands& operands) {
  const at::Tensor& label = operands.label();
  if (!label.defined()) return {};
  const auto of = [&](Range part) { return label.narrow(0, part.begin, part.size()); };
  const auto among = [&](Range rows, Range columns) {
    const at::Tensor sorted = std::get<0>(at::sort(of(columns)));
    const at::Tensor own = of(rows);
    return at::searchsorted(sorted, own, /*out_int32=*/true, /*right=*/true) -
           at::searchsorted(sorted, own, /*out_int32=*/true, /*right=*/false);
  };
  const auto& [rows, columns] = operands.problem();
  if (operands.problem().same()) return among(columns, columns) - 1;
  return at::cat({among(rows, columns), among(columns, rows)});
}

}  // namespace simclr::fused
