// The forward kernels for wide rows, which do not depend on the precision.

#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/wide_forward.cuh"
#include "cuda/wide_launch.cuh"

namespace simclr::fused {
namespace {

template <bool kSharedShift, bool kLabels>
void launch_wide_forward(const WideForwardParams& p, Stream stream) {
  launch(wide_forward_kernel<kSharedShift, kLabels>, wide_blocks(p.tile), kWideThreads,
         WideRowSums<kSharedShift, kLabels>::kSharedBytes, stream, p);
}

}  // namespace

void wide_forward(const WideForwardParams& p, Stream stream) {
  const bool labels = p.pass.pairing.label != nullptr;
  if (p.pass.exponents.shared_shift) {
    (labels ? launch_wide_forward<true, true> : launch_wide_forward<true, false>)(p, stream);
  } else {
    (labels ? launch_wide_forward<false, true> : launch_wide_forward<false, false>)(p, stream);
  }
}

void wide_stats_forward(const WideStatsForwardParams& p, Stream stream) {
  launch(wide_stats_forward_kernel, wide_blocks(p.pass.tile), kWideThreads, 0, stream, p);
}

void wide_sigmoid_forward(const WideSigmoidForwardParams& p, Stream stream) {
  launch(wide_sigmoid_forward_kernel, wide_blocks(p.pass.tile), kWideThreads, 0, stream, p);
}

}  // namespace simclr::fused
