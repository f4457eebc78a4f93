// By-products of the forward pass, per row: the hardest negative, the mean similarity of its terms,
// and how near its negatives are. As in RowSums without a shared shift, sums are relative to the
// row's largest exponent so far.

#pragma once

#include "cuda/row_sums.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {

// exp(-2 |x - y|^2) = exp(4 (s - 1)) for unit rows, in base 2.
constexpr float kNearShift = static_cast<float>(4 / kLn2);

// What is known of a row from some of its pairs.
struct RowParts {
  float sum = 0.0f;  // of 2^(x - max)
  float max = kLeastExponent;
  float weighted = 0.0f;      // sum of x 2^(x - max)
  float near = 0.0f;          // sum of exp(4 (s - 1)) over negatives
  float hardest = -INFINITY;  // the largest x of a negative, and its column
  int hardest_index = -1;

  SIMCLR_DEVICE void rescale(float largest) {
    const float factor = exp2_fast(max - largest);
    sum *= factor;
    weighted *= factor;
    max = largest;
  }
  // x is at most `max`; -infinity if the pair is not a term.
  SIMCLR_DEVICE void add_term(float x) {
    const float power = exp2_fast(x - max);
    sum += power;
    weighted += power * fmaxf(x, kLeastExponent);  // 0, not NaN
  }
  // x is -infinity if the pair is not a negative among the terms; s = x near_scale / kNearShift.
  SIMCLR_DEVICE void add_negative(float x, int column, float near_scale) {
    near += exp2_fast(x * near_scale - kNearShift);
    if (!(x > hardest)) return;  // of equal ones the first
    hardest = x;
    hardest_index = column;
  }
  // Those of another lane.
  SIMCLR_DEVICE RowParts of_lane(int lanes) const {
    return {shuffle_xor(sum, lanes),      shuffle_xor(max, lanes),
            shuffle_xor(weighted, lanes), shuffle_xor(near, lanes),
            shuffle_xor(hardest, lanes),  shuffle_xor(hardest_index, lanes)};
  }
  SIMCLR_DEVICE void join(RowParts other) {
    const float largest = fmaxf(max, other.max);
    rescale(largest);
    other.rescale(largest);
    sum += other.sum;
    weighted += other.weighted;
    near += other.near;
    const bool first = other.hardest == hardest && other.hardest_index < hardest_index;
    if (!(other.hardest > hardest || first)) return;
    hardest = other.hardest;
    hardest_index = other.hardest_index;
  }
  SIMCLR_DEVICE void store(float* row_sum, float* row_max, const StatsSums& sums,
                           int64_t place) const {
    row_sum[place] = sum;
    row_max[place] = max;
    sums.weighted[place] = weighted;
    sums.near[place] = near;
    sums.hardest[place] = hardest;
    sums.hardest_index[place] = hardest_index;
  }
};

template <typename C>
class RowStats {
 public:
  static constexpr bool kSharedShift = false;
  static constexpr bool kStats = true;
  static constexpr bool kSumsPositives = true;
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  explicit SIMCLR_DEVICE RowStats(const StatsForwardParams& p)
      : p_(p), near_scale_(kNearShift / scale_of(p.pass.exponents)) {}

  static SIMCLR_DEVICE float scale(const ForwardParams& p) { return scale_of(p.exponents); }
  static SIMCLR_DEVICE float shift(const ForwardParams&) { return 0.0f; }

  SIMCLR_DEVICE void clear() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) row_[m][half] = RowParts();
    }
  }

  // Adds a tile of exponents. Pairs that are not terms are -infinity.
  SIMCLR_DEVICE void add(const Tile& x, int /*stage*/) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float largest = row_[m][half].max;
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          largest = fmaxf(largest, fmaxf(x[m][n][2 * half], x[m][n][2 * half + 1]));
        }
        row_[m][half].rescale(largest);
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          SIMCLR_UNROLL
          for (int e = 2 * half; e < 2 * half + 2; ++e) row_[m][half].add_term(x[m][n][e]);
        }
      }
    }
  }

  // The same for the negatives among the terms: all others are -infinity.
  SIMCLR_DEVICE void add_negatives(const Tile& x, int first_column) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          row_[m][e / 2].add_negative(x[m][n][e], first_column + column_of(n, e), near_scale_);
        }
      }
    }
  }

  // Stores the sums of the rows, up to `rows` of the block's, from `place` of their side's on.
  SIMCLR_DEVICE void store(const ForwardParams& p, bool transposed, int64_t place, int rows) const {
    const auto [side_sum, side_max, _] = p.sums_of(transposed);
    const StatsSums sums = p_.sums.of(transposed);
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        RowParts parts = row_[m][half];
        for (int lanes = 1; lanes <= 2; lanes *= 2) parts.join(parts.of_lane(lanes));
        const int row = row_of<C>(m, 2 * half);
        if (lane_id() % 4 == 0 && row < rows) parts.store(side_sum, side_max, sums, place + row);
      }
    }
  }

 private:
  const StatsForwardParams& p_;
  float near_scale_;
  RowParts row_[C::kRowTiles][2];
};

}  // namespace simclr::fused
