// A block's threads, its shared memory as arrays of floats, and reductions over all of its threads
// in a fixed order.

#pragma once

#include "cuda/device.cuh"

namespace simclr::fused {

SIMCLR_DEVICE int lane_id() { return thread_id() % 32; }
SIMCLR_DEVICE int warp_id() { return thread_id() / 32; }

SIMCLR_DEVICE float shared_load(int array, int index) {
  return bits_float(shared_load_bits(array + 4 * index));
}
SIMCLR_DEVICE void shared_store(int array, int index, float value) {
  shared_store_bits(array + 4 * index, float_bits(value));
}

// The threads of the kernels that look for the largest gradient, and their shared memory.
constexpr int kReduceThreads = 512;
constexpr int kReduceWarps = kReduceThreads / 32;
constexpr int kReduceBytes = 4 * kReduceWarps;

// The largest value of all threads; in all of them. Used once per kernel.
SIMCLR_DEVICE float block_max(float value) {
  for (int lanes = 16; lanes >= 1; lanes /= 2) value = fmaxf(value, shuffle_xor(value, lanes));
  if (lane_id() == 0) shared_store(0, warp_id(), value);
  sync_threads();
  for (int warp = 0; warp < kReduceWarps; ++warp) value = fmaxf(value, shared_load(0, warp));
  return value;
}

// The sum over all threads of a block; in all of them. Used once per kernel, which has a double per
// warp of shared memory.
template <int kThreads>
SIMCLR_DEVICE double block_sum(double value) {
  for (int lanes = 16; lanes >= 1; lanes /= 2) value += shuffle_xor(value, lanes);
  if (lane_id() == 0) {
    const uint64_t bits = double_bits(value);
    shared_store_bits(8 * warp_id(), static_cast<uint32_t>(bits));
    shared_store_bits(8 * warp_id() + 4, static_cast<uint32_t>(bits >> 32));
  }
  sync_threads();
  double sum = 0;
  for (int warp = 0; warp < kThreads / 32; ++warp) {
    const uint64_t high = shared_load_bits(8 * warp + 4);
    sum += bits_double(high << 32 | shared_load_bits(8 * warp));
  }
  return sum;
}

}  // namespace simclr::fused
