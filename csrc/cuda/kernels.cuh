// Fills the table of a precision. One source file per precision includes it, so that they compile
// in parallel.

#pragma once

#include "cuda/backward.cuh"
#include "cuda/forward.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {

template <typename Element>
void launch_prepare(const PrepareParams& p, Stream stream) {
  constexpr int kRowsPerBlock = kRowThreads / 32;
  launch(prepare_kernel<Element>, divide_up(p.count, kRowsPerBlock), kRowThreads, 0, stream, p);
}

template <typename Element>
int tile_rows(int64_t dim) {
  int rows = 0;
  dispatch_dim<Element>(dim, [&](auto config) { rows = decltype(config)::kRows; });
  return rows;
}

template <typename Element>
void launch_forward(const ForwardParams& p, Stream stream) {
  const int64_t rows = p.row_strips.count;
  const bool triangle = p.shared_shift && p.problem.symmetric();
  const int64_t blocks = triangle ? rows * (rows + 1) / 2 : rows * p.column_strips.count;
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    const auto kernel = p.shared_shift    ? forward_kernel<C, true, false>
                        : p.pairing.label ? forward_kernel<C, false, true>
                                          : forward_kernel<C, false, false>;
    launch(kernel, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_stats_forward(const StatsForwardParams& p, Stream stream) {
  const int64_t blocks = int64_t{p.pass.row_strips.count} * p.pass.column_strips.count;
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = decltype(config);
    launch(stats_forward_kernel<C>, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_backward(const BackwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    const int64_t blocks = divide_up(p.problem.rows.size(), C::kRows);
    if (p.shared_shift) {
      launch(backward_kernel<C, true, false>, blocks, C::kThreads, C::kSharedBytes, stream, p);
      return;
    }
    using Own = OwnShiftConfig<C>;
    const auto kernel =
        p.pairing.label ? backward_kernel<Own, false, true> : backward_kernel<Own, false, false>;
    launch(kernel, blocks, Own::kThreads, Own::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_sigmoid_forward(const SigmoidForwardParams& p, Stream stream) {
  const int64_t blocks = int64_t{p.pass.row_strips.count} * p.pass.column_strips.count;
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = decltype(config);
    launch(sigmoid_forward_kernel<C>, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_sigmoid_backward(const SigmoidBackwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = decltype(config);
    const int64_t blocks = divide_up(p.pass.problem.rows.size(), C::kRows);
    launch(sigmoid_backward_kernel<C>, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
constexpr Kernels kKernels = {launch_prepare<Element>,         tile_rows<Element>,
                              launch_forward<Element>,         launch_backward<Element>,
                              launch_stats_forward<Element>,   launch_sigmoid_forward<Element>,
                              launch_sigmoid_backward<Element>};

}  // namespace simclr::fused
