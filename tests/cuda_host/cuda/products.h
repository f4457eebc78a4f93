// The twin of csrc/cuda/products.h: the CPU's products, exact but for their sums in float.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/mm.h>

#include "common/limits.h"

namespace simclr::fused {

// Small, so that problems of a test have several tiles.
constexpr int64_t kWideSide = 320;

// Tests may declare narrow rows to be wide: the kernels do not know D.
inline int64_t largest_narrow_dim = kMaxDim;
inline bool is_wide(int64_t dim) { return dim > largest_narrow_dim; }

inline void check_wide_dtype(at::ScalarType) {}

inline void multiply(at::Tensor out, const at::Tensor& left, const at::Tensor& right) {
  out.copy_(left.to(at::kFloat).mm(right.to(at::kFloat).t()));
}

inline void add_product(at::Tensor sum, const at::Tensor& w, const at::Tensor& z) {
  sum.add_(w.to(at::kFloat).mm(z.to(at::kFloat)));
}

}  // namespace simclr::fused
