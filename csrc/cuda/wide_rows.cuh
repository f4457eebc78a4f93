// The preparation of wide rows, as in rows.cuh.

#pragma once

#include "cuda/rows.cuh"

namespace simclr::fused {

constexpr int kWideRowsPerBlock = kRowThreads / 32;  // one warp each

template <typename Element>
SIMCLR_KERNEL(kRowThreads, 4)
void wide_prepare_kernel(const PrepareParams p) {
  using Storage = typename Element::Storage;
  const int lane = thread_id() % 32;
  const int i = block_id() * kWideRowsPerBlock + thread_id() / 32;
  if (i == 0 && lane == 0) store_scale(p.exponents);
  if (i >= p.count) return;
  const auto [x, column_stride] = given_row<Storage>(p, i);
  auto* z = static_cast<Storage*>(p.z) + int64_t{i} * p.stride;

  RowScale scale{1.0f, 1.0f, 1.0f};
  if (p.normalize) {
    float largest = 0.0f;
    for (int k = lane; k < p.dim; k += 32) {
      largest = fmaxf(largest, fabsf(Element::widen(x[k * column_stride])));
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) {
      largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    const float unit = largest_power_of_two(largest);
    float sum = 0.0f;
    for (int k = lane; k < p.dim; k += 32) {
      const float value = Element::widen(x[k * column_stride]) / unit;
      sum += value * value;
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) sum += shuffle_xor(sum, lanes);
    scale = scale_of_norm(sqrtf(sum) * unit, p.inv_eps);
    if (lane == 0) p.inv_norm[i] = scale.inv_norm;
  }
  if (lane == 0) p.factor[i] = scale.factor;
  for (int k = lane; k < p.stride; k += 32) {
    const float value = k < p.dim ? Element::widen(x[k * column_stride]) * scale.power : 0.0f;
    z[k] = Element::operand(value);
  }
}

}  // namespace simclr::fused
