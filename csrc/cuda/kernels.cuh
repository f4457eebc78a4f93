// Fills the table of a precision. One source file per precision includes it, so that they compile
// in parallel.

#pragma once

#include "cuda/backward.cuh"
#include "cuda/forward.cuh"
#include "cuda/gradient.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/rows.cuh"
#include "cuda/wide_launch.cuh"

namespace simclr::fused {

template <typename Element>
void launch_prepare(const PrepareParams& p, Stream stream) {
  constexpr int kRowsPerBlock = kRowThreads / 32;
  launch(prepare_kernel<Element>, divide_up(p.count, kRowsPerBlock), kRowThreads, 0, stream, p);
}

template <typename C>
constexpr TileShape kTileShape = {C::kRows, C::kColumns};

template <typename Element>
TileShape forward_tile(int64_t dim) {
  TileShape shape{};
  dispatch_dim<Element>(dim,
                        [&](auto config) { shape = kTileShape<ForwardConfig<decltype(config)>>; });
  return shape;
}
template <typename Element>
TileShape backward_tile(int64_t dim) {
  TileShape shape{};
  dispatch_dim<Element>(dim, [&](auto config) { shape = kTileShape<decltype(config)>; });
  return shape;
}

// Blocks of a forward pass whose columns have sums too, if they are not rows.
inline int64_t forward_blocks(const ForwardParams& p) {
  const int64_t rows = p.row_strips.count;
  const bool shared = p.exponents.shared_shift;
  if (shared && p.problem.symmetric()) return rows * (rows + 1) / 2;
  const bool transposed_too = !shared && !p.problem.same();
  return rows * p.column_strips.count * (transposed_too ? 2 : 1);
}

template <typename Element>
void launch_forward(const ForwardParams& p, Stream stream) {
  const bool shared = p.exponents.shared_shift;
  const int64_t blocks = forward_blocks(p);
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    using Forward = ForwardConfig<C>;
    if (p.pairing.label != nullptr && !shared) {  // labels take most of the registers
      launch(forward_kernel<C, false, true>, blocks, C::kThreads, C::kSharedBytes, stream, p);
    } else {
      const auto kernel =
          shared ? forward_kernel<Forward, true, false> : forward_kernel<Forward, false, false>;
      launch(kernel, blocks, Forward::kThreads, Forward::kSharedBytes, stream, p);
    }
  });
}

template <typename Element>
void launch_stats_forward(const StatsForwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = decltype(config);  // by-products take most of the registers
    launch(stats_forward_kernel<C>, forward_blocks(p.pass), C::kThreads, C::kSharedBytes, stream,
           p);
  });
}

// Blocks of the two kernels of a backward pass.
template <typename C>
int64_t backward_blocks(const BackwardParams& p) {
  return backward_blocks<C>(p, false) + backward_blocks<C>(p, true);
}
template <typename C>
int64_t gradient_blocks(const BackwardParams& p) {
  return divide_up(p.wanted.size(), kGradientRows<C::kDim>);
}

template <typename C>
void launch_partial_gradients(const BackwardParams& p, Stream stream) {
  using Own = OwnShiftConfig<C>;
  if (p.exponents.shared_shift) {
    launch(backward_kernel<C, true, false>, backward_blocks<C>(p), C::kThreads, C::kSharedBytes,
           stream, p);
  } else {
    const auto kernel =
        p.pairing.label ? backward_kernel<Own, false, true> : backward_kernel<Own, false, false>;
    launch(kernel, backward_blocks<Own>(p), Own::kThreads, Own::kSharedBytes, stream, p);
  }
}

template <typename Element>
void launch_backward(const BackwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.rows.dim, [&](auto config) {
    using C = decltype(config);
    for_each_shift(p.exponents, [&](const Exponents& exponents) {
      BackwardParams of_shift = p;
      of_shift.exponents = exponents;
      launch_partial_gradients<C>(of_shift, stream);
    });
    const auto kernel = gradient_kernel<Element, C::kDim>;
    launch(kernel, gradient_blocks<C>(p), kRowThreads, kRadialSumBytes, stream, p);
  });
}

template <typename Element>
void launch_sigmoid_forward(const SigmoidForwardParams& p, Stream stream) {
  const int64_t blocks = int64_t{p.pass.row_strips.count} * p.pass.column_strips.count;
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = ForwardConfig<decltype(config)>;
    launch(sigmoid_forward_kernel<C>, blocks, C::kThreads, C::kSharedBytes, stream, p);
  });
}

template <typename Element>
void launch_sigmoid_backward(const SigmoidBackwardParams& p, Stream stream) {
  dispatch_dim<Element>(p.pass.rows.dim, [&](auto config) {
    using C = decltype(config);
    launch(sigmoid_backward_kernel<C>, backward_blocks<C>(p.pass), C::kThreads, C::kSharedBytes,
           stream, p);
    const auto kernel = sigmoid_gradient_kernel<Element, C::kDim>;
    launch(kernel, gradient_blocks<C>(p.pass), kRowThreads, kRadialSumBytes, stream, p);
  });
}

template <typename Element>
constexpr Kernels kKernels = {launch_prepare<Element>,
                              forward_tile<Element>,
                              backward_tile<Element>,
                              launch_forward<Element>,
                              launch_backward<Element>,
                              launch_stats_forward<Element>,
                              launch_sigmoid_forward<Element>,
                              launch_sigmoid_backward<Element>,
                              launch_wide_prepare<Element>,
                              launch_wide_weights<Element>,
                              launch_wide_gradient<Element>,
                              launch_wide_sigmoid_weights<Element>,
                              launch_wide_sigmoid_gradient<Element>};

}  // namespace simclr::fused
