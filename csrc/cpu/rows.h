// The rows of a batch in one buffer z: joining them, normalizing, and undoing that for gradients.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/range.h"
#include "cpu/simd/kernels.h"

namespace simclr {

// The power of two in inv_norm; 1 if it is not finite.
inline float power_of_two(float inv_norm) {
  if (!std::isfinite(inv_norm)) return 1;
  int exponent;
  std::frexp(inv_norm, &exponent);
  return std::ldexp(1.0F, exponent - 1);
}

// Rows z_i as the forward pass stores them for the backward pass.
//
// Floats and doubles are stored normalized. bfloat16 rows stay bfloat16, so that they can be
// multiplied as such: a row is stored times a power of two, which is exact, and the remaining
// factor of its normalization, from 1 to 2, multiplies the products.
struct Rows {
  Rows(at::Tensor stored, at::Tensor norms)
      : z(std::move(stored)),
        inv_norm(std::move(norms)),
        factor(are_halves() ? at::ones({z.size(0)}, inv_norm.options()) : at::Tensor()) {}

  bool normalized() const { return inv_norm.numel() > 0; }
  bool are_halves() const { return z.scalar_type() == at::kBFloat16; }

  // Computes the remaining factors of rows whose inv_norm is known.
  void set_factors(Range part) const {
    if (!are_halves() || !normalized()) return;
    const float* inv = inv_norm.const_data_ptr<float>();
    float* values = factor.mutable_data_ptr<float>();
    for (int64_t i = part.begin; i < part.end; ++i) values[i] = inv[i] / power_of_two(inv[i]);
  }

  // [rows, D], contiguous
  at::Tensor z;
  // [rows] of the compute dtype, 1 / max(norm, eps); [0] if not normalized
  at::Tensor inv_norm;
  // [rows] float: the remaining factors of bfloat16 rows, 1 if not normalized; else undefined
  at::Tensor factor;
};

// Rows that a forward pass has stored.
inline Rows stored_rows(const at::Tensor& z, const at::Tensor& inv_norm) {
  Rows rows(z.contiguous(), inv_norm.contiguous());
  rows.set_factors({0, z.size(0)});
  return rows;
}

// Writes some bfloat16 rows in float, multiplied by their remaining factors, to `to`.
inline void widen_rows(const Rows& rows, Range part, float* to) {
  const int64_t dim = rows.z.size(1);
  const auto* row = reinterpret_cast<const uint16_t*>(rows.z.const_data_ptr<at::BFloat16>());
  const float* factor = rows.factor.const_data_ptr<float>();
  for (int64_t i = part.begin; i < part.end; ++i, to += dim) {
    simd::half_kernels().widen(row + i * dim, dim, factor[i], to);
  }
}

// Returns some rows in the compute dtype; bfloat16 rows are widened in `buffer`.
template <typename T>
const T* in_compute_dtype(const Rows& rows, Range part, std::vector<T>& buffer) {
  const int64_t dim = rows.z.size(1);
  if constexpr (std::is_same_v<T, float>) {
    if (rows.are_halves()) {
      buffer.resize(part.size() * dim);
      widen_rows(rows, part, buffer.data());
      return buffer.data();
    }
  }
  return rows.z.const_data_ptr<T>() + part.begin * dim;
}

// Normalizes bfloat16 rows as Rows stores them.
inline void normalize_halves(uint16_t* z, int64_t rows, int64_t dim, double eps, float* inv_norm) {
  std::vector<float> row(dim);
  const auto& kernels = simd::half_kernels();
  for (int64_t i = 0; i < rows; ++i, z += dim) {
    kernels.widen(z, dim, 1, row.data());
    simd::kernels<float>().normalize_rows(row.data(), 1, dim, eps, inv_norm + i);
    kernels.widen(z, dim, power_of_two(inv_norm[i]), row.data());
    kernels.narrow(row.data(), dim, z);
  }
}

// Copies x to the rows of z from `first` on. Without torch where that is quick, since its copy
// takes some microseconds more than the bytes do.
inline void copy_rows(const at::Tensor& x, const at::Tensor& z, int64_t first) {
  constexpr int64_t kFew = 32 * 1024;  // elements, of which torch copies more in parallel
  const bool plain = x.is_contiguous() && x.scalar_type() == z.scalar_type();
  if (!plain || x.numel() > kFew) {
    z.narrow(0, first, x.size(0)).copy_(x);
    return;
  }
  auto* to = static_cast<std::byte*>(z.mutable_data_ptr()) + first * z.size(1) * z.itemsize();
  std::memcpy(to, x.const_data_ptr(), x.nbytes());
}

// Copies x [rows, D] and y [columns, D] into one buffer, as rows that are yet to be normalized if
// they are to be. T is the compute dtype. y may be undefined.
template <typename T>
Rows join_rows(const at::Tensor& x, const at::Tensor& y, bool normalize) {
  const int64_t columns = y.defined() ? y.size(0) : 0;
  const int64_t count = x.size(0) + columns;
  const auto options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  const bool halves = x.scalar_type() == at::kBFloat16;
  Rows rows(at::empty({count, x.size(1)}, halves ? x.options() : options),
            at::empty({normalize ? count : 0}, options));
  copy_rows(x, rows.z, 0);
  if (columns > 0) copy_rows(y, rows.z, x.size(0));
  return rows;
}

// Normalizes some rows, if they are to be.
template <typename T>
void normalize_rows(const Rows& rows, Range part, double eps) {
  if (!rows.normalized()) return;
  const int64_t dim = rows.z.size(1);
  T* inv_norm = rows.inv_norm.template mutable_data_ptr<T>() + part.begin;
  if constexpr (std::is_same_v<T, float>) {
    if (rows.are_halves()) {
      auto* bits = reinterpret_cast<uint16_t*>(rows.z.mutable_data_ptr<at::BFloat16>());
      normalize_halves(bits + part.begin * dim, part.size(), dim, eps, inv_norm);
      rows.set_factors(part);
      return;
    }
  }
  T* row = rows.z.template mutable_data_ptr<T>() + part.begin * dim;
  simd::kernels<T>().normalize_rows(row, part.size(), dim, eps, inv_norm);
}

// Turns dL/dz of some rows, in `grad`, into the gradient of the raw rows, and returns
// sum_i z_i . dL/dz_i over them.
template <typename T>
double undo_normalization(const Rows& rows, Range part, double eps, T* grad) {
  const T* inv = rows.normalized() ? rows.inv_norm.const_data_ptr<T>() + part.begin : nullptr;
  std::vector<T> widened;
  return simd::kernels<T>().normalize_rows_backward(in_compute_dtype(rows, part, widened), grad,
                                                    part.size(), rows.z.size(1), eps, inv);
}

}  // namespace simclr
