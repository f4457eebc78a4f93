// Sums over the rows and the columns of a tile in device memory: of exponentials, and of the
// exponents of positives by labels. A block adds those of its rows to one slot of the totals, those
// of its columns to another: no atomics, and the same bits every time.

#pragma once

#include <type_traits>

#include "cuda/wide_lanes.cuh"
#include "cuda/wide_tile.cuh"

namespace simclr::fused {

// A sum, and where its totals are.
template <float* SideSums::* kTotals>
struct WidePlainSum {
  static constexpr int kNumbers = 1;
  float sum;

  template <int kCount>
  static SIMCLR_DEVICE WidePlainSum of(const float (&terms)[kCount]) {
    WidePlainSum all{0.0f};
    SIMCLR_UNROLL
    for (int k = 0; k < kCount; ++k) all.sum += terms[k];
    return all;
  }
  SIMCLR_DEVICE WidePlainSum of_lane(int lanes) const { return {shuffle_xor(sum, lanes)}; }
  SIMCLR_DEVICE void join(const WidePlainSum& other) { sum += other.sum; }
  SIMCLR_DEVICE void share(int array, int index) const {
    shared_store_bits(array + 4 * index, float_bits(sum));
  }
  static SIMCLR_DEVICE WidePlainSum shared(int array, int index) {
    return {bits_float(shared_load_bits(array + 4 * index))};
  }
  SIMCLR_DEVICE void add_to(const SideSums& totals, int64_t place) const {
    owned(totals.*kTotals + place) += sum;
  }
};

using WideSharedShiftSum = WidePlainSum<&SideSums::sum>;
using WidePositiveSum = WidePlainSum<&SideSums::positive>;

// A sum of powers relative to the largest exponent, rescaled when that rises.
struct WideOwnShiftSum {
  static constexpr int kNumbers = 2;
  float sum;
  float max;

  template <int kCount>
  static SIMCLR_DEVICE WideOwnShiftSum of(const float (&exponents)[kCount]) {
    WideOwnShiftSum all{0.0f, kLeastExponent};
    SIMCLR_UNROLL
    for (int k = 0; k < kCount; ++k) all.max = fmaxf(all.max, exponents[k]);
    SIMCLR_UNROLL
    for (int k = 0; k < kCount; ++k) all.sum += exp2_fast(exponents[k] - all.max);
    return all;
  }
  SIMCLR_DEVICE WideOwnShiftSum of_lane(int lanes) const {
    return {shuffle_xor(sum, lanes), shuffle_xor(max, lanes)};
  }
  SIMCLR_DEVICE void join(const WideOwnShiftSum& other) {
    const float largest = fmaxf(max, other.max);
    sum = sum * exp2_fast(max - largest) + other.sum * exp2_fast(other.max - largest);
    max = largest;
  }
  SIMCLR_DEVICE void share(int array, int index) const {
    shared_store_bits(array + 8 * index, float_bits(sum));
    shared_store_bits(array + 8 * index + 4, float_bits(max));
  }
  static SIMCLR_DEVICE WideOwnShiftSum shared(int array, int index) {
    return {bits_float(shared_load_bits(array + 8 * index)),
            bits_float(shared_load_bits(array + 8 * index + 4))};
  }
  SIMCLR_DEVICE void add_to(const SideSums& totals, int64_t place) const {
    WideOwnShiftSum total{owned(totals.sum + place), totals.max[place]};
    total.join(*this);
    totals.sum[place] = total.sum;
    totals.max[place] = total.max;
  }
};

// The exponents of pairs with equal labels, and 0 of all others.
SIMCLR_DEVICE void select_positives(WidePairs& terms, const WidePairs& x, const int32_t* label,
                                    const WideBlock& block) {
  SIMCLR_UNROLL
  for (int r = 0; r < WideShape::kWarpRows; ++r) {
    const int i = opaque(block.row(0)) + r;  // so that nothing of this is computed in advance
    const int32_t own = block.has_row(i) ? label[i] : 0;
    const int first_column = opaque(block.column(0));
    SIMCLR_UNROLL
    for (int e = 0; e < WideShape::kLaneColumns; ++e) {
      const int j = first_column + e;
      const bool counts = block.has_column(j) && x[r][e] > -INFINITY;
      terms[r][e] = counts && label[j] == own ? x[r][e] : 0.0f;
    }
  }
}

// Adds to the totals of the rows.
template <typename Sum>
SIMCLR_DEVICE void add_to_rows(const WidePairs& terms, const SideSums& totals,
                               const Problem& problem, const WideBlock& block) {
  if (!block.has_row(block.row(0))) return;
  Sum rows[WideShape::kWarpRows];
  SIMCLR_UNROLL
  for (int r = 0; r < WideShape::kWarpRows; ++r) rows[r] = Sum::of(terms[r]);
  const Sum row = join_lanes(rows);
  const int64_t place = row_place(problem, block);
  if (place >= 0) row.add_to(totals, place);
}

template <bool kSharedShift, bool kLabels>
class WideRowSums : WideShape {
 public:
  static constexpr bool kSumsPositives = true;
  static constexpr int kSharedBytes = 4 * ((kSharedShift ? 1 : 2) + kLabels) * kWarps * kColumns;

  explicit SIMCLR_DEVICE WideRowSums(const WideForwardParams& p) : p_(p) {}

  // x = scale s - shift
  SIMCLR_DEVICE float scale() const { return scale_of(p_.pass.exponents); }
  SIMCLR_DEVICE float shift() const { return 0.0f; }

  // Adds exponents; those of pairs that do not count are -infinity.
  SIMCLR_DEVICE void add_positives(const WidePairs& x, const WideBlock& block) const {
    if constexpr (kLabels) {
      WidePairs terms;
      select_positives(terms, x, p_.pass.pairing.label, block);
      add_to_both<WidePositiveSum>(terms, block, kPowersBytes);
    }
  }
  // The same of those that are terms of the log-sum-exp.
  SIMCLR_DEVICE void add(WidePairs& x, const WideBlock& block) const {
    if constexpr (kSharedShift) {
      SIMCLR_UNROLL
      for (int r = 0; r < kWarpRows; ++r) {
        SIMCLR_UNROLL
        for (int e = 0; e < kLaneColumns; ++e) x[r][e] = exp2_fast(x[r][e]);
      }
      add_to_both<WideSharedShiftSum>(x, block, 0);
    } else {
      add_to_both<WideOwnShiftSum>(x, block, 0);
    }
  }

 private:
  static constexpr int kPowersBytes = 4 * (kSharedShift ? 1 : 2) * kWarps * kColumns;

  // array: in shared memory, of its own, so that no barrier is needed before.
  template <typename Sum>
  SIMCLR_DEVICE void add_to_both(const WidePairs& terms, const WideBlock& block, int array) const {
    add_to_rows<Sum>(terms, p_.rows, p_.pass.problem, block);
    if (p_.columns.sum != nullptr) add_to_columns<Sum>(terms, block, array);
  }

  template <typename Sum>
  SIMCLR_DEVICE void add_to_columns(const WidePairs& terms, const WideBlock& block,
                                    int array) const {
    SIMCLR_UNROLL
    for (int e = 0; e < kLaneColumns; ++e) {
      float column[kWarpRows];
      SIMCLR_UNROLL
      for (int r = 0; r < kWarpRows; ++r) column[r] = terms[r][e];
      const int index = thread_id() / 32 * kColumns + thread_id() % 32 * kLaneColumns + e;
      Sum::of(column).share(array, index);
    }
    sync_threads();
    const int column = thread_id();
    const int j = block.first_column() + column;
    if (column < kColumns && block.has_column(j)) {
      Sum sum = Sum::shared(array, column);
      for (int warp = 1; warp < kWarps; ++warp) {
        sum.join(Sum::shared(array, warp * kColumns + column));
      }
      const Range side = p_.pass.problem.columns;
      sum.add_to(p_.columns, block.row_block() * side.size() + j - side.begin);
    }
    sync_warp();  // what follows needs whole warps
  }

  const WideForwardParams& p_;
};

}  // namespace simclr::fused
