// The rows of a batch in one buffer z: joining them, normalizing, and undoing that for gradients.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>

#include <cmath>
#include <cstddef>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
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
      : z(std::move(stored)), inv_norm(std::move(norms)), factor(remaining_factor()) {}

  bool normalized() const { return inv_norm.numel() > 0; }
  bool are_halves() const { return z.scalar_type() == at::kBFloat16; }

  // [rows, D], contiguous
  at::Tensor z;
  // [rows] of the compute dtype, 1 / max(norm, eps); [0] if not normalized
  at::Tensor inv_norm;
  // [rows] float: the remaining factors of bfloat16 rows, 1 if not normalized; else undefined
  at::Tensor factor;

 private:
  at::Tensor remaining_factor() const {
    if (!are_halves()) return {};
    at::Tensor factors = at::ones({z.size(0)}, inv_norm.options());
    const float* inv = inv_norm.const_data_ptr<float>();
    float* values = factors.mutable_data_ptr<float>();
    for (int64_t i = 0; i < inv_norm.numel(); ++i) values[i] = inv[i] / power_of_two(inv[i]);
    return factors;
  }
};

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

// Returns bfloat16 rows in float, [rows, D].
inline at::Tensor widened(const Rows& rows, const std::vector<Range>& blocks) {
  at::Tensor z = at::empty(rows.z.sizes(), rows.factor.options());
  const int64_t dim = z.size(1);
  float* to = z.mutable_data_ptr<float>();
  visit_blocks(blocks, dim, [&](Range part) { widen_rows(rows, part, to + part.begin * dim); });
  return z;
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

// Copies x [rows, D] and y [columns, D] into one buffer and, on request, normalizes the rows;
// `blocks` cover all of them. T is the compute dtype. y may be undefined.
template <typename T>
Rows join_rows(const at::Tensor& x, const at::Tensor& y, const std::vector<Range>& blocks,
               bool normalize, double eps) {
  const int64_t dim = x.size(1);
  const int64_t columns = y.defined() ? y.size(0) : 0;
  const int64_t count = x.size(0) + columns;
  const auto options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  const bool halves = x.scalar_type() == at::kBFloat16;
  at::Tensor z = at::empty({count, dim}, halves ? x.options() : options);
  at::Tensor inv_norm = at::empty({normalize ? count : 0}, options);
  copy_rows(x, z, 0);
  if (columns > 0) copy_rows(y, z, x.size(0));
  if (!normalize) return {z, inv_norm};
  visit_blocks(blocks, dim, [&](Range rows) {
    T* inv = inv_norm.template mutable_data_ptr<T>() + rows.begin;
    const int64_t first = rows.begin * dim;
    if constexpr (std::is_same_v<T, float>) {
      if (halves) {
        auto* bits = reinterpret_cast<uint16_t*>(z.mutable_data_ptr<at::BFloat16>());
        normalize_halves(bits + first, rows.size(), dim, eps, inv);
        return;
      }
    }
    T* row = z.template mutable_data_ptr<T>() + first;
    simd::kernels<T>().normalize_rows(row, rows.size(), dim, eps, inv);
  });
  return {z, inv_norm};
}

// Turns dL/dZ of the rows `wanted`, in `grad_z` [wanted, D], into the gradient of the raw rows, and
// returns sum_i z_i . dL/dz_i over the rows that are also in `counted`.
template <typename T>
double undo_normalization(const Rows& rows, double eps, const std::vector<Range>& blocks,
                          Range wanted, Range counted, const at::Tensor& grad_z) {
  const int64_t dim = rows.z.size(1);
  const T* inv = rows.normalized() ? rows.inv_norm.const_data_ptr<T>() : nullptr;
  T* grad = grad_z.mutable_data_ptr<T>();
  std::vector<double> radial(blocks.size(), 0.0);
  visit_blocks(blocks, dim, [&](const Range& block) {
    const Range part = intersect(block, wanted);
    if (part.size() == 0) return;
    std::vector<T> widened;
    const double sum = simd::kernels<T>().normalize_rows_backward(
        in_compute_dtype(rows, part, widened), grad + (part.begin - wanted.begin) * dim,
        part.size(), dim, eps, inv == nullptr ? nullptr : inv + part.begin);
    if (counted.contains(part.begin)) radial[&block - blocks.data()] = sum;
  });
  return std::accumulate(radial.begin(), radial.end(), 0.0);
}

}  // namespace simclr
