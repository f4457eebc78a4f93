// What a loss needs of each row: the sum of its exponentials, and the sum over its positives.
//
// With a shared shift a tile's exponentials belong to rows and to columns: its rows' sums stay in
// registers, its columns' go through shared memory, where each warp leaves its own. Else rows alone
// have sums, relative to their largest exponent so far, which rise with it.

#pragma once

#include "cuda/mainloop_mma.cuh"

namespace simclr::fused {

// Finite, and below every exponent: the difference of two infinities would be NaN.
constexpr float kLeastExponent = -1e30f;

template <typename C, bool kSharedShift>
class RowSums {
 public:
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

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

  // Adds the exponents of pairs of equal labels to the sums of the rows' positives, `row_positive`,
  // in the place of this block's row 0, and leaves those of the columns.
  SIMCLR_DEVICE void add_positives(const Tile& x, int stage, const int32_t* row_label, int rows,
                                   const int32_t* column_label, int columns,
                                   float* row_positive) const {
    float row_sum[C::kRowTiles][2] = {};
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      float column_sum[2] = {0.0f, 0.0f};
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int row = row_of<C>(m, e);
          const int column = column_of(n, e);
          const bool inside = row < rows && column < columns;
          const bool counts = inside && x[m][n][e] > -INFINITY;
          if (!counts || row_label[row] != column_label[column]) continue;
          row_sum[m][e / 2] += x[m][n][e];
          column_sum[e % 2] += x[m][n][e];
        }
      }
      if constexpr (kSharedShift) leave_columns(column_sum, column_positives(stage), n);
    }
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float sum = row_sum[m][half];
        for (int lanes = 1; lanes <= 2; lanes *= 2) sum += shuffle_xor(sum, lanes);
        const int row = row_of<C>(m, 2 * half);
        if (lane_id() % 4 == 0 && row < rows) row_positive[row] += sum;
      }
    }
  }

  // What all warps have left of a column of the tile, after a barrier.
  static SIMCLR_DEVICE float column_sum(int stage, int column) {
    return sum_of_warps(column_sums(stage), column);
  }
  static SIMCLR_DEVICE float column_positive(int stage, int column) {
    return sum_of_warps(column_positives(stage), column);
  }

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

 private:
  static SIMCLR_DEVICE int column_sums(int stage) {
    return C::kSumsOffset + stage * C::kWarps * C::kColumns * 4;
  }
  static SIMCLR_DEVICE int column_positives(int stage) {
    return C::kPositivesOffset + stage * C::kWarps * C::kColumns * 4;
  }
  static SIMCLR_DEVICE float sum_of_warps(int sums, int column) {
    float sum = 0.0f;
    SIMCLR_UNROLL
    for (int w = 0; w < C::kWarps; ++w) sum += shared_load(sums, w * C::kColumns + column);
    return sum;
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
      leave_columns(column, column_sums(stage), n);
    }
  }

  // Leaves the warp's sums of two columns at `sums`: added over the lanes that hold the same
  // columns; each of two halves of them then keeps one.
  static SIMCLR_DEVICE void leave_columns(const float (&column)[2], int sums, int n) {
    const bool odd = lane_id() & 4;
    const float sent = shuffle_xor(odd ? column[0] : column[1], 4);
    float sum = (odd ? column[1] : column[0]) + sent;
    sum += shuffle_xor(sum, 8);
    sum += shuffle_xor(sum, 16);
    if (lane_id() < 8) {
      shared_store(sums, warp_id() * C::kColumns + column_of(n, odd ? 1 : 0), sum);
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
