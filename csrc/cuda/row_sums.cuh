// Per row: the sum of its exponentials, and the sum over its positives.
//
// With a shared shift, a tile's exponentials are added to rows and to columns: its rows' sums stay
// in registers, its columns' sums go through shared memory, where each warp writes its own.
// Otherwise only rows have sums, relative to their largest exponent so far and rescaled when it
// rises.

#pragma once

#include "cuda/exponents.cuh"
#include "cuda/mainloop_mma.cuh"
#include "cuda/tile_bits.cuh"

namespace simclr::fused {

template <typename C, bool kSharedShift_>
class RowSums {
 public:
  static constexpr bool kSharedShift = kSharedShift_;
  static constexpr bool kStats = false;
  static constexpr bool kSumsPositives = true;
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  // x = scale s - shift
  static SIMCLR_DEVICE float scale(const ForwardParams& p) { return scale_of(p.exponents); }
  static SIMCLR_DEVICE float shift(const ForwardParams&) { return 0.0f; }

  SIMCLR_DEVICE void clear() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        sum_[m][half] = 0.0f;
        max_[m][half] = kLeastExponent;
      }
    }
  }

  // Adds a tile of exponents. Pairs that do not count are -infinity.
  SIMCLR_DEVICE void add(const Tile& x, int stage) {
    if constexpr (kSharedShift) {
      add_to_both(x, stage);
    } else {
      add_to_rows(x);
    }
  }

  // Adds the exponents of the positives, as far as they count, to the rows' sums of them, of which
  // there are `rows` from `row_positive` on.
  static SIMCLR_DEVICE void add_positives(const Tile& x, const TileBits<C>& positive, int rows,
                                          float* row_positive) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float sum = 0.0f;
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          SIMCLR_UNROLL
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            const bool counts = positive.has(m, n, e) && x[m][n][e] > -INFINITY;
            sum += counts ? x[m][n][e] : 0.0f;
          }
        }
        for (int lanes = 1; lanes <= 2; lanes *= 2) sum += shuffle_xor(sum, lanes);
        const int row = row_of<C>(m, 2 * half);
        if (lane_id() % 4 == 0 && row < rows) row_positive[row] += sum;
      }
    }
  }

  // The sum of all warps' sums of a column of the tile. Requires a barrier before.
  static SIMCLR_DEVICE float column_sum(int stage, int column) {
    float sum = 0.0f;
    SIMCLR_UNROLL
    for (int w = 0; w < C::kWarps; ++w) {
      sum += shared_load(column_sums(stage), w * C::kColumns + column);
    }
    return sum;
  }

  // Stores the sums of the rows, up to `rows` of the block's, from `place` of their side's on.
  SIMCLR_DEVICE void store(const ForwardParams& p, bool transposed, int64_t place, int rows) const {
    const SideSums sums = p.sums_of(transposed);
    finish_rows([&](int row, float sum, float max) {
      if (row >= rows) return;
      sums.sum[place + row] = sum;
      if constexpr (!kSharedShift) sums.max[place + row] = max;
    });
  }

 private:
  // Joins the four lanes that share a row, and calls store(row, sum, max) in one of them.
  template <typename Store>
  SIMCLR_DEVICE void finish_rows(const Store& store) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float sum = sum_[m][half];
        float largest = max_[m][half];
        SIMCLR_UNROLL
        for (int lanes = 1; lanes <= 2; lanes *= 2) {
          const float other_sum = shuffle_xor(sum, lanes);
          const float other_largest = shuffle_xor(largest, lanes);
          const float both = fmaxf(largest, other_largest);
          sum = sum * exp2_fast(largest - both) + other_sum * exp2_fast(other_largest - both);
          largest = both;
        }
        if (lane_id() % 4 == 0) store(row_of<C>(m, 2 * half), sum, largest);
      }
    }
  }

  static SIMCLR_DEVICE int column_sums(int stage) {
    return C::kSumsOffset + stage * C::kWarps * C::kColumns * 4;
  }

  SIMCLR_DEVICE void add_to_both(const Tile& x, int stage) {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      float column[2] = {0.0f, 0.0f};
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float value = exp2_fast(x[m][n][e]);
          sum_[m][e / 2] += value;
          column[e % 2] += value;
        }
      }
      // Sum over the lanes that hold the same two columns; each half of them then keeps one.
      const bool odd = lane_id() & 4;
      const float sent = shuffle_xor(odd ? column[0] : column[1], 4);
      float sum = (odd ? column[1] : column[0]) + sent;
      sum += shuffle_xor(sum, 8);
      sum += shuffle_xor(sum, 16);
      if (lane_id() < 8) {
        shared_store(column_sums(stage), warp_id() * C::kColumns + column_of(n, odd ? 1 : 0), sum);
      }
    }
  }

  SIMCLR_DEVICE void add_to_rows(const Tile& x) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float largest = max_[m][half];
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          largest = fmaxf(largest, fmaxf(x[m][n][2 * half], x[m][n][2 * half + 1]));
        }
        float sum = sum_[m][half] * exp2_fast(max_[m][half] - largest);
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          sum += exp2_fast(x[m][n][2 * half] - largest);
          sum += exp2_fast(x[m][n][2 * half + 1] - largest);
        }
        sum_[m][half] = sum;
        max_[m][half] = largest;
      }
    }
  }

  float sum_[C::kRowTiles][2];
  float max_[C::kRowTiles][2];
};

}  // namespace simclr::fused
