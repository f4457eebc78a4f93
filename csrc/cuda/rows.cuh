// Prepares rows for the products, and the powers of two that scale rows and weights.

#pragma once

#include "cuda/elements.cuh"
#include "cuda/exponents.cuh"

namespace simclr::fused {

constexpr int kRowThreads = 128;
constexpr double kLn2 = 0.693147180559945309;

// 2^exponent, for exponents of normal numbers.
SIMCLR_DEVICE float exp2i(int exponent) {
  return bits_float(static_cast<uint32_t>(exponent + 127) << 23);
}
// The largest power of two that is at most x > 0, but at least the smallest normal number.
SIMCLR_DEVICE float largest_power_of_two(float x) {
  const uint32_t exponent = float_bits(x) & 0x7f800000u;
  return exponent == 0 ? exp2i(-126) : bits_float(exponent);
}

// How a row is stored: times a power of two, with the rest of its normalization beside it.
struct RowScale {
  float power;
  float factor;
  float inv_norm;
};
SIMCLR_DEVICE RowScale scale_of_norm(float norm, float inv_eps) {
  float inv_norm = 1.0f / norm;
  if (inv_norm > inv_eps) inv_norm = inv_eps;  // not if the norm is NaN
  const float power = largest_power_of_two(inv_norm);
  return {power, inv_norm / power, inv_norm};
}

// A row of x or y, and how far apart its elements are.
template <typename Storage>
struct GivenRow {
  const Storage* x;
  int64_t column_stride;
};
// Row i of [x; y].
template <typename Storage>
SIMCLR_DEVICE GivenRow<Storage> given_row(const PrepareParams& p, int i) {
  const bool first = i < p.rows;
  const int row = first ? i : i - p.rows;
  const auto* x = static_cast<const Storage*>(first ? p.side[0] : p.side[1]);
  return {x + row * (first ? p.row_stride[0] : p.row_stride[1]),
          first ? p.column_stride[0] : p.column_stride[1]};
}

// Joins x and y, one warp per row: computes the norm, and stores the row scaled by a power of two.
template <typename Element>
SIMCLR_KERNEL(kRowThreads, 1)
void prepare_kernel(const PrepareParams p) {
  using Storage = typename Element::Storage;
  const int lane = thread_id() % 32;
  const int i = block_id() * (kRowThreads / 32) + thread_id() / 32;
  if (i == 0 && lane == 0) store_scale(p.exponents);
  if (i >= p.count) return;
  const auto [x, column_stride] = given_row<Storage>(p, i);
  auto* z = static_cast<Storage*>(p.z) + int64_t{i} * p.stride;

  // The lane's elements, lane + 32 u: loads that do not wait for each other.
  constexpr int kElements = kMaxDim / 32;
  float value[kElements];
  SIMCLR_UNROLL
  for (int u = 0; u < kElements; ++u) {
    const int k = lane + 32 * u;
    value[u] = k < p.dim ? Element::widen(x[k * column_stride]) : 0.0f;
  }
  RowScale scale{1.0f, 1.0f, 1.0f};
  if (p.normalize) {
    float largest = 0.0f;
    SIMCLR_UNROLL
    for (int u = 0; u < kElements; ++u) largest = fmaxf(largest, fabsf(value[u]));
    for (int lanes = 16; lanes >= 1; lanes /= 2) {
      largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    // After this exact division, squares are within range for rows of any norm.
    const float unit = largest_power_of_two(largest);
    float sum = 0.0f;
    SIMCLR_UNROLL
    for (int u = 0; u < kElements; ++u) {
      const float scaled = value[u] / unit;
      sum += scaled * scaled;
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) sum += shuffle_xor(sum, lanes);
    scale = scale_of_norm(sqrtf(sum) * unit, p.inv_eps);
    if (lane == 0) p.inv_norm[i] = scale.inv_norm;
  }
  if (lane == 0) p.factor[i] = scale.factor;
  SIMCLR_UNROLL
  for (int u = 0; u < kElements; ++u) {
    const int k = lane + 32 * u;
    if (k < p.stride) z[k] = Element::operand(k < p.dim ? value[u] * scale.power : 0.0f);
  }
}

// Weights are multiplied by 2^gain_exponent for the tensor cores, so that the largest are about
// 2^8: for every batch size they are then far above fp16's smallest number, 2^-24.
SIMCLR_DEVICE int gain_exponent(float max_grad) {
  const int exponent = static_cast<int>(float_bits(max_grad) >> 23) - 127;  // -127 for zero
  const int gain = 8 - exponent;
  return gain < -100 ? -100 : (gain > 100 ? 100 : gain);
}

}  // namespace simclr::fused
