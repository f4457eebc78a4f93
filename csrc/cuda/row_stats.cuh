// By-products of the forward pass, per row: the hardest negative, the mean similarity of its terms,
// and how near its negatives are. As in RowSums without a shared shift, sums are relative to the
// row's largest exponent so far.

#pragma once

#include "cuda/row_sums.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {

template <typename C>
class RowStats {
 public:
  static constexpr bool kSharedShift = false;
  static constexpr bool kStats = true;
  static constexpr bool kSumsPositives = true;
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  explicit SIMCLR_DEVICE RowStats(const StatsForwardParams& p)
      : sums_(p.sums), near_scale_(kNearShift / p.pass.scale) {}

  static SIMCLR_DEVICE float scale(const ForwardParams& p) { return p.scale; }
  static SIMCLR_DEVICE float shift(const ForwardParams&) { return 0.0f; }

  SIMCLR_DEVICE void clear() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        row_[m][half] = {0.0f, kLeastExponent, 0.0f, 0.0f, -INFINITY, -1};
      }
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
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            const float power = exp2_fast(x[m][n][e] - largest);
            row_[m][half].sum += power;
            row_[m][half].weighted += power * fmaxf(x[m][n][e], kLeastExponent);  // 0, not NaN
          }
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
          Row& row = row_[m][e / 2];
          row.near += exp2_fast(x[m][n][e] * near_scale_ - kNearShift);
          if (!(x[m][n][e] > row.hardest)) continue;  // of equal ones the first
          row.hardest = x[m][n][e];
          row.hardest_index = first_column + column_of(n, e);
        }
      }
    }
  }

  // Stores the sums of the rows, up to `rows` of the block's, from `place` on.
  SIMCLR_DEVICE void store(const ForwardParams& p, int64_t place, int rows) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        Row sums = row_[m][half];
        for (int lanes = 1; lanes <= 2; lanes *= 2) sums.join(lanes);
        const int row = row_of<C>(m, 2 * half);
        if (lane_id() % 4 != 0 || row >= rows) continue;
        p.row_sum[place + row] = sums.sum;
        p.row_max[place + row] = sums.max;
        sums_.weighted[place + row] = sums.weighted;
        sums_.near[place + row] = sums.near;
        sums_.hardest[place + row] = sums.hardest;
        sums_.hardest_index[place + row] = sums.hardest_index;
      }
    }
  }

 private:
  // exp(-2 |x - y|^2) = exp(4 (s - 1)) for unit rows, in base 2.
  static constexpr float kNearShift = static_cast<float>(4 / kLn2);

  struct Row {
    float sum;  // of 2^(x - max)
    float max;
    float weighted;  // sum of x 2^(x - max)
    float near;      // sum of exp(4 (s - 1)) over negatives
    float hardest;   // the largest x of a negative, and its column
    int hardest_index;

    SIMCLR_DEVICE void rescale(float largest) {
      const float factor = exp2_fast(max - largest);
      sum *= factor;
      weighted *= factor;
      max = largest;
    }
    // Adds the sums of another lane that shares the row.
    SIMCLR_DEVICE void join(int lanes) {
      Row other = {shuffle_xor(sum, lanes),      shuffle_xor(max, lanes),
                   shuffle_xor(weighted, lanes), shuffle_xor(near, lanes),
                   shuffle_xor(hardest, lanes),  shuffle_xor(hardest_index, lanes)};
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
  };

  StatsSums sums_;
  float near_scale_;
  Row row_[C::kRowTiles][2];
};

}  // namespace simclr::fused
