// Kernels over rows, before and after those over pairs: what a row brings, and what it is told.

#pragma once

#include "cuda/elements.cuh"
#include "cuda/params.h"

namespace simclr::fused {

constexpr int kRowThreads = 128;
constexpr double kLn2 = 0.693147180559945309;

// 2^exponent, for exponents of normal numbers.
SIMCLR_DEVICE float exp2i(int exponent) {
  return bits_float(static_cast<uint32_t>(exponent + 127) << 23);
}
// The largest power of two that is at most x > 0, but no less than the least normal number.
SIMCLR_DEVICE float largest_power_of_two(float x) {
  const uint32_t exponent = float_bits(x) & 0x7f800000u;
  return exponent == 0 ? exp2i(-126) : bits_float(exponent);
}

// Joins the views, a warp per row: finds the norm, and stores the row scaled by a power of two.
template <typename Element>
SIMCLR_KERNEL(kRowThreads, 1)
void prepare_kernel(const PrepareParams p) {
  using Storage = typename Element::Storage;
  const int lane = thread_id() % 32;
  const int i = block_id() * (kRowThreads / 32) + thread_id() / 32;
  if (i >= 2 * p.pairs) return;
  const int view = i < p.pairs ? 0 : 1;
  const int row = i - view * p.pairs;
  const auto* x = static_cast<const Storage*>(p.view[view]) + row * p.row_stride[view];
  auto* z = static_cast<Storage*>(p.z) + int64_t{i} * p.stride;

  float power = 1.0f;
  float factor = 1.0f;
  if (p.normalize) {
    float largest = 0.0f;
    for (int k = lane; k < p.dim; k += 32) {
      largest = fmaxf(largest, fabsf(Element::widen(x[k * p.column_stride[view]])));
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) {
      largest = fmaxf(largest, shuffle_xor(largest, lanes));
    }
    // The squares of a row of any length are within range after this division, which is exact.
    const float unit = largest_power_of_two(largest);
    float sum = 0.0f;
    for (int k = lane; k < p.dim; k += 32) {
      const float value = Element::widen(x[k * p.column_stride[view]]) / unit;
      sum += value * value;
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) sum += shuffle_xor(sum, lanes);
    const float norm = sqrtf(sum) * unit;
    const bool clamped = norm < p.eps;  // false for a norm that is no number
    const float inv_norm = 1.0f / (clamped ? p.eps : norm);
    power = largest_power_of_two(inv_norm);
    factor = inv_norm / power;
    if (lane == 0) p.inv_norm[i] = clamped ? -inv_norm : inv_norm;
  }
  if (lane == 0) p.factor[i] = factor;
  for (int k = lane; k < p.stride; k += 32) {
    const float value = k < p.dim ? Element::widen(x[k * p.column_stride[view]]) * power : 0.0f;
    z[k] = Element::operand(value);
  }
}

// Adds a row's partial sums, and makes its loss of them.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_kernel(const FinishParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  double sum = 0;
  double shift = p.shift;
  if (p.partial_max == nullptr) {
    for (int strip = 0; strip <= p.strips; ++strip) {
      sum += p.partial_sum[int64_t{strip} * p.count + i];
    }
  } else {
    float largest = p.partial_max[i];
    for (int strip = 1; strip < p.strips; ++strip) {
      largest = fmaxf(largest, p.partial_max[int64_t{strip} * p.count + i]);
    }
    for (int strip = 0; strip < p.strips; ++strip) {
      const int64_t place = int64_t{strip} * p.count + i;
      sum += p.partial_sum[place] * exp2(static_cast<double>(p.partial_max[place]) - largest);
    }
    shift += largest;
  }
  const double log_sum = log2(sum);
  p.lse[i] = kLn2 * (log_sum + shift);
  // Relative to the same shift as the sum: where the positive dominates it, they cancel.
  const int place = p.partial_max == nullptr && i >= p.pairs ? i - p.pairs : i;
  const double positive = p.positive[place] + (p.shift - shift);
  const double loss = kLn2 * (log_sum - positive);
  // The positive is one of the sum's terms and cannot exceed it: what is negative is rounding.
  p.loss[i] = static_cast<float>(loss < 0 ? 0 : loss);
}

// The largest |grad_loss|, as a float's bits: those of positive numbers are ordered as they are.
SIMCLR_KERNEL(kRowThreads, 1)
void max_grad_kernel(const TermsParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  const float grad = fabsf(p.grad_loss[i * p.grad_loss_stride]);
  if (grad < INFINITY) atomic_max(p.max_grad, float_bits(grad));
}

// Weights are multiplied by 2^gain_exponent while tensor cores handle them, so that the largest are
// about 2^8: in fp16, those of batches of any size are then far from its least number, 2^-24.
SIMCLR_DEVICE int gain_exponent(uint32_t max_grad) {
  const int exponent = static_cast<int>(max_grad >> 23) - 127;  // -127 for zero
  const int gain = 8 - exponent;
  return gain < -100 ? -100 : (gain > 100 ? 100 : gain);
}

// A row's terms of the weights, T W_ij = g_i P_ij + g_j P_ji, and its factor again.
SIMCLR_KERNEL(kRowThreads, 1)
void terms_kernel(const TermsParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  const double lse = p.lse[i] / kLn2;  // of exponents of two
  const double grad = p.grad_loss[i * p.grad_loss_stride];
  const float row_shift = p.shared_shift ? p.shift : static_cast<float>(lse);
  p.row_shift[i] = row_shift;
  const float inv_norm = p.inv_norm == nullptr ? 1.0f : fabsf(p.inv_norm[i]);
  p.factor[i] = inv_norm / largest_power_of_two(inv_norm);
  // What the shift lacks of lse goes here, in double: P_ij keeps its last bits.
  p.weight[i] = static_cast<float>(grad * exp2(row_shift - lse) *
                                   exp2(static_cast<double>(gain_exponent(*p.max_grad))));
  if (i >= p.pairs) return;
  // P_ip - 1 = expm1(-loss_i): exact where P_ip is so near 1 that a difference would be noise.
  const double other_grad = p.grad_loss[(i + p.pairs) * p.grad_loss_stride];
  p.positive_weight[i] =
      static_cast<float>(grad * expm1(-static_cast<double>(p.loss[i])) +
                         other_grad * expm1(-static_cast<double>(p.loss[i + p.pairs])));
}

}  // namespace simclr::fused
