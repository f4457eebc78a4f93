// The products of wide rows, by cuBLAS: whole matrices in device memory. Has a twin in
// tests/cuda_host.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

#include "common/limits.h"
#include "common/torch_compat.h"

namespace simclr::fused {

// The most rows and columns of a tile of similarities, 64 MiB: so many that cuBLAS is fast in all
// three products, and that weights of half types, 32 MiB, stay in the L2 cache of an A100 or H100
// until they are multiplied.
constexpr int64_t kWideSide = 4096;

// Whether rows are too wide for the kernels that multiply themselves.
inline bool is_wide(int64_t dim) { return dim > kMaxDim; }

inline void check_wide_dtype(at::ScalarType dtype) {
  TORCH_CHECK_TYPE(SIMCLR_TORCH_AT_LEAST(2, 8) || dtype == at::kFloat, "D > ", kMaxDim, " of ",
                   dtype,
                   " needs torch 2.8, whose products of halves have float results; the tiled "
                   "backend takes it");
}

// out = left right^T, summed in float. All are strided by rows; out is float.
inline void multiply(at::Tensor out, const at::Tensor& left, const at::Tensor& right) {
#if SIMCLR_TORCH_AT_LEAST(2, 8)
  if (left.scalar_type() != at::kFloat) {
    at::mm_out(out, left, right.t(), at::kFloat);
    return;
  }
#endif
  at::mm_out(out, left, right.t());
}

// sum += w z, for w of the dtype of z; sum is float.
inline void add_product(at::Tensor sum, const at::Tensor& w, const at::Tensor& z) {
#if SIMCLR_TORCH_AT_LEAST(2, 8)
  if (z.scalar_type() != at::kFloat) {
    at::addmm_out(sum, sum, w, z, at::kFloat);
    return;
  }
#endif
  at::addmm_out(sum, sum, w, z);
}

}  // namespace simclr::fused
