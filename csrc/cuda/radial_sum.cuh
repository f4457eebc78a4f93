// The gradient of the temperature, or of the scale, from the radial parts of the rows' gradients.

#pragma once

#include "cuda/block.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {

constexpr int kRadialSumBytes = 8 * kRowThreads / 32;  // of shared memory

// At the end of a kernel that stores them: its last block adds them, in the same order every time.
SIMCLR_DEVICE void sum_radial_parts(const RadialSum& p) {
  if (p.result == nullptr || !is_last_block(p.blocks_done)) return;
  double part = 0;
  SIMCLR_UNROLL_8  // loads that do not wait for each other
      for (int i = thread_id(); i < p.count; i += kRowThreads) part += load_of_others(p.radial + i);
  const double sum = block_sum<kRowThreads>(part);
  if (thread_id() == 0) *p.result = p.factor * sum / value_of(p.divisor);
}

}  // namespace simclr::fused
