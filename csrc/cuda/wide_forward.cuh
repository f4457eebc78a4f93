// The forward pass over a tile in device memory: products become exponents, and exponents sums.

#pragma once

#include "cuda/wide_sigmoid_sums.cuh"
#include "cuda/wide_stats.cuh"
#include "cuda/wide_sums.cuh"

namespace simclr::fused {

// Sums: what is summed, WideRowSums, WideRowStats or WideSigmoidSums.
template <typename Sums>
class WideForward : WideShape {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE WideForward(const WideForwardParams& p, const Arguments&... of_sums)
      : p_(p.pass), block_(p.tile), sums_(of_sums...) {}

  SIMCLR_DEVICE void run() {
    if (block_.is_empty()) return;
    WidePairs x;
    block_.load(x);
    scale(x);
    if (block_.is_special(p_.pairing)) treat_special(x);
    sums_.add_positives(x, block_);
    if constexpr (Sums::kSumsPositives) {
      if (p_.pairing.leaves_out()) leave_out(x);
    }
    sums_.add(x, block_);
  }

 private:
  SIMCLR_DEVICE void scale(WidePairs& x) const {
    float column_factor[kLaneColumns];
    SIMCLR_UNROLL
    for (int e = 0; e < kLaneColumns; ++e) {
      const int j = block_.column(e);
      column_factor[e] = block_.has_column(j) ? p_.rows.factor[j] : 0.0f;
    }
    SIMCLR_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      const int i = block_.row(r);
      const float row_scale = block_.has_row(i) ? sums_.scale() * p_.rows.factor[i] : 0.0f;
      SIMCLR_UNROLL
      for (int e = 0; e < kLaneColumns; ++e) {
        x[r][e] = x[r][e] * row_scale * column_factor[e] - sums_.shift();
      }
    }
  }

  // Calls visit(x, i, j) for a lane's pairs, in a rare case. There are no registers to spare for
  // it: the compiler must not compute anything of it in advance.
  template <typename Visit>
  SIMCLR_DEVICE void for_each_rarely(WidePairs& x, const Visit& visit) const {
    SIMCLR_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      const int i = opaque(block_.row(0)) + r;
      const int j = opaque(block_.column(0));
      SIMCLR_UNROLL
      for (int e = 0; e < kLaneColumns; ++e) visit(x[r][e], i, j + e);
    }
  }

  // Stores the positives' exponents, and masks pairs that are not summed.
  SIMCLR_DEVICE void treat_special(WidePairs& x) const {
    for_each_rarely(x, [&](float& value, int i, int j) {
      const bool counts = block_.counts(p_.pairing, i, j);
      if (counts) store_positive(i, j, value);
      const bool summed = counts && (Sums::kSumsPositives || !p_.pairing.positive(i, j));
      value = summed ? value : -INFINITY;
    });
  }

  // Masks pairs that are not terms of the log-sum-exp.
  SIMCLR_DEVICE void leave_out(WidePairs& x) const {
    for_each_rarely(x, [&](float& value, int i, int j) {
      const bool inside = block_.has_row(i) && block_.has_column(j);
      if (inside && !p_.pairing.summed(i, j)) value = -INFINITY;
    });
  }

  SIMCLR_DEVICE void store_positive(int i, int j, float x) const {
    SIMCLR_UNROLL
    for (int k = 0; k < Pairing::kMaxShifts; ++k) {
      if (k >= p_.pairing.shifts || j != i + to_int(p_.pairing.shift[k])) continue;
      p_.positive[k * p_.problem.count() + i] = x;
    }
  }

  const ForwardParams& p_;
  WideBlock block_;
  Sums sums_;
};

template <bool kSharedShift, bool kLabels>
SIMCLR_KERNEL(kWideThreads, 2)
void wide_forward_kernel(const WideForwardParams p) {
  WideForward<WideRowSums<kSharedShift, kLabels>>(p, p).run();
}

SIMCLR_KERNEL(kWideThreads, 2)
void wide_stats_forward_kernel(const WideStatsForwardParams p) {
  WideForward<WideRowStats>(p.pass, p).run();
}

SIMCLR_KERNEL(kWideThreads, 2)
void wide_sigmoid_forward_kernel(const WideSigmoidForwardParams p) {
  WideForward<WideSigmoidSums>(p.pass, p).run();
}

}  // namespace simclr::fused
