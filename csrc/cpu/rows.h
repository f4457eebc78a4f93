// The rows of a batch in one buffer z: joining them, normalizing, and undoing that for gradients.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <numeric>
#include <utility>
#include <vector>

#include "cpu/parallel.h"
#include "cpu/simd/kernels.h"

namespace simclr {

// Copies x [rows, D] and y [columns, D] into one buffer z [rows + columns, D] of T and, on request,
// normalizes its rows; `blocks` cover all of them. Returns z and the inv_norm of normalize_rows,
// [rows + columns], or [0] if not normalized. y may be undefined.
template <typename T>
std::pair<at::Tensor, at::Tensor> join_rows(const at::Tensor& x, const at::Tensor& y,
                                            const std::vector<Range>& blocks, bool normalize,
                                            double eps) {
  const int64_t dim = x.size(1);
  const int64_t columns = y.defined() ? y.size(0) : 0;
  const int64_t count = x.size(0) + columns;
  const auto options = x.options().dtype(c10::CppTypeToScalarType<T>::value);
  at::Tensor z = at::empty({count, dim}, options);
  z.narrow(0, 0, x.size(0)).copy_(x);
  if (columns > 0) z.narrow(0, x.size(0), columns).copy_(y);
  if (!normalize) return {z, at::empty({0}, options)};
  at::Tensor inv_norm = at::empty({count}, options);
  T* row = z.mutable_data_ptr<T>();
  T* inv = inv_norm.mutable_data_ptr<T>();
  visit_blocks(blocks, dim, [&](Range rows) {
    simd::kernels<T>().normalize_rows(row + rows.begin * dim, rows.size(), dim, eps,
                                      inv + rows.begin);
  });
  return {z, inv_norm};
}

// Turns dL/dZ of the rows `wanted`, in `grad_z` [wanted, D], into the gradient of the raw rows, and
// returns sum_i z_i . dL/dz_i over the rows that are also in `counted`.
template <typename T>
double undo_normalization(const at::Tensor& z, const at::Tensor& inv_norm, double eps,
                          const std::vector<Range>& blocks, Range wanted, Range counted,
                          const at::Tensor& grad_z) {
  const int64_t dim = z.size(1);
  const T* row = z.const_data_ptr<T>();
  const T* inv = inv_norm.numel() == 0 ? nullptr : inv_norm.const_data_ptr<T>();
  T* grad = grad_z.mutable_data_ptr<T>();
  std::vector<double> radial(blocks.size(), 0.0);
  visit_blocks(blocks, dim, [&](const Range& block) {
    const Range part = intersect(block, wanted);
    if (part.size() == 0) return;
    const double sum = simd::kernels<T>().normalize_rows_backward(
        row + part.begin * dim, grad + (part.begin - wanted.begin) * dim, part.size(), dim, eps,
        inv == nullptr ? nullptr : inv + part.begin);
    if (counted.contains(part.begin)) radial[&block - blocks.data()] = sum;
  });
  return std::accumulate(radial.begin(), radial.end(), 0.0);
}

}  // namespace simclr
