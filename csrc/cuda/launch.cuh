// Launches kernels, and fills the table of a precision. A source file per precision includes it, so
// that they compile side by side.

#pragma once

#include "cuda/backward.cuh"
#include "cuda/forward.cuh"
#include "cuda/kernels.h"
#include "cuda/rows.cuh"

#ifdef SIMCLR_CUDA_HOST
#include "launch_host.h"
#else
#include <c10/cuda/CUDAException.h>

namespace simclr::fused {

template <typename Params>
void launch(void (*kernel)(Params), int64_t blocks, int threads, int shared_bytes, Stream stream,
            const Params& params) {
  if (shared_bytes > 0) {
    // Two blocks take 138 KiB, which an A100 has only where L1 has least. The kernels' data goes
    // past L1.
    C10_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                        cudaSharedmemCarveoutMaxShared));
  }
  void* arguments[] = {const_cast<Params*>(&params)};
  C10_CUDA_CHECK(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads),
                                  arguments, shared_bytes, stream));
}

}  // namespace simclr::fused
#endif

namespace simclr::fused {

inline int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

template <typename Element>
void launch_prepare(const PrepareParams& p, Stream stream) {
  constexpr int kRowsPerBlock = kRowThreads / 32;
  launch(prepare_kernel<Element>, divide_up(2 * p.pairs, kRowsPerBlock), kRowThreads, 0, stream, p);
}

template <typename Element>
int tile_rows(int64_t dim) {
  int rows = 0;
  dispatch_dim<Element>(dim, [&](auto config) { rows = decltype(config)::kRows; });
  return rows;
}

template <typename Element>
void launch_forward(const ForwardParams& p, Stream stream) {
  const int64_t blocks = p.shared_shift ? p.strips * (p.strips + 1) / 2 : p.strips * p.strips;
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    const auto kernel = p.shared_shift ? forward_kernel<C, true> : forward_kernel<C, false>;
    launch(kernel, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_backward(const BackwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    const int64_t blocks = divide_up(p.end_row - p.first_row, C::kRows);
    const auto kernel = p.shared_shift ? backward_kernel<C, true> : backward_kernel<C, false>;
    launch(kernel, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
constexpr Kernels kKernels = {launch_prepare<Element>, tile_rows<Element>, launch_forward<Element>,
                              launch_backward<Element>};

}  // namespace simclr::fused
