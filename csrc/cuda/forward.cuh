// Sums of the exponentials of all rows, S never stored:
//
//   l_i = sum_{j != i} 2^(x_ij - shift),   x_ij = scale factor_i factor_j (row_i . row_j)
//
// The rows are cut into strips, and a block visits the pairs of two strips (a, b), a <= b, tile by
// tile: its rows' sums stay in registers, its columns' go to their partial sums after each tile. So
// every pair is visited once, each partial sum has one writer, and they are added in a fixed order:
// no atomics, and the same bits every time.
//
// Without a shared shift a block visits all pairs of two strips (a, b) in both orders, for its rows
// alone: each row's shift is its largest exponent so far.

#pragma once

#include "cuda/tile.cuh"

namespace simclr::fused {

// Finite, and below every exponent: the difference of two infinities would be no number.
constexpr float kLeastExponent = -1e30f;

// The pair of strips of a block, a <= b: the blocks count through the rows of the upper triangle.
// With all pairs: through a square.
struct StripPair {
  int a;
  int b;
};
SIMCLR_DEVICE StripPair strip_pair(int block, int strips, bool triangle) {
  if (!triangle) return {block / strips, block % strips};
  int a = 0;
  for (int row = strips; block >= row; --row, ++a) block -= row;
  return {a, a + block};
}

template <typename C, bool kSharedShift>
class ForwardBlock {
 public:
  explicit SIMCLR_DEVICE ForwardBlock(const ForwardParams& p)
      : p_(p), pair_(strip_pair(block_id(), p.strips, kSharedShift)) {}

  SIMCLR_DEVICE void run() {
    const int end = min_of((pair_.a + 1) * p_.strip_rows, p_.rows.count);
    for (int row = pair_.a * p_.strip_rows; row < end; row += C::kRows) visit_row_tile(row);
  }

 private:
  static SIMCLR_DEVICE int min_of(int x, int y) { return x < y ? x : y; }

  SIMCLR_DEVICE void visit_row_tile(int first_row) {
    first_row_ = first_row;
    const int strip = pair_.b * p_.strip_rows;
    const int end = min_of(strip + p_.strip_rows, p_.rows.count);
    // In a strip of its own, a tile of rows begins with the columns that it shares.
    const bool diagonal = kSharedShift && pair_.a == pair_.b;
    int column = diagonal ? first_row : strip;

    // No barrier: the one before the last column sums is after all reads of the tiles.
    copy_tile_async<C, C::kRows>(kRowsOffset, p_.rows, first_row);
    copy_columns_async(0, column);
    load_row_terms();
    int stage = 0;
    int previous = -1;  // first column of the tile before
    for (; column < end; column += C::kColumns) {
      copy_async_wait<0>();
      // Barrier: this stage is full for all threads, and all are done with the other one.
      sync_threads();
      if (column + C::kColumns < end) copy_columns_async(stage ^ 1, column + C::kColumns);
      if (previous >= 0) add_column_sums(stage ^ 1, previous);
      visit_tile(stage, column);
      previous = column;
      stage ^= 1;
    }
    sync_threads();
    add_column_sums(stage ^ 1, previous);
    store_row_sums();
  }

  SIMCLR_DEVICE void copy_columns_async(int stage, int column) {
    copy_tile_async<C, C::kColumns>(stage_tile<C>(stage), p_.rows, column);
    copy_terms_async<C>(stage_terms<C>(stage, 0), p_.rows.factor, column, p_.rows.count);
    copy_async_commit();
  }

  SIMCLR_DEVICE void load_row_terms() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = first_row_ + row_of<C>(m, 2 * half);
        row_scale_[m][half] = i < p_.rows.count ? p_.scale * p_.rows.factor[i] : 0.0f;
        row_sum_[m][half] = 0.0f;
        row_max_[m][half] = kLeastExponent;
      }
    }
  }

  SIMCLR_DEVICE void visit_tile(int stage, int first_column) {
    float x[C::kRowTiles][C::kColumnTiles][4];
    multiply_rows<C>(x, kRowsOffset, stage_tile<C>(stage));
    scale(x, stage_terms<C>(stage, 0));
    if (is_special(first_column)) treat_special(x, first_column);
    if constexpr (kSharedShift) {
      sum_both(x, column_sums(stage));
    } else {
      sum_rows(x);
    }
  }

  SIMCLR_DEVICE void scale(float (&x)[C::kRowTiles][C::kColumnTiles][4], int factor) {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      const float column_factor[2] = {shared_load(factor, column_of(n, 0)),
                                      shared_load(factor, column_of(n, 1))};
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          x[m][n][e] = x[m][n][e] * row_scale_[m][e / 2] * column_factor[e % 2] - p_.shift;
        }
      }
    }
  }

  // Whether the tile holds positives, or elements that do not count.
  SIMCLR_DEVICE bool is_special(int first_column) const {
    const int after_row = first_row_ + C::kRows;
    const int after_column = first_column + C::kColumns;
    const bool diagonal = first_column < after_row && first_row_ < after_column;
    const bool edge = after_row > p_.rows.count || after_column > p_.rows.count;
    const bool positive =
        first_column < after_row + p_.rows.pairs && first_row_ + p_.rows.pairs < after_column;
    const bool mirrored = !kSharedShift && first_row_ < after_column + p_.rows.pairs &&
                          first_column + p_.rows.pairs < after_row;
    return diagonal || edge || positive || mirrored;
  }

  // Keeps the positives' exponents, and makes those that do not count vanish.
  SIMCLR_DEVICE void treat_special(float (&x)[C::kRowTiles][C::kColumnTiles][4], int first_column) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int i = first_row_ + row_of<C>(m, e);
          const int j = first_column + column_of(n, e);
          const bool inside = i < p_.rows.count && j < p_.rows.count;
          const bool positive = j == i + p_.rows.pairs || j == i - p_.rows.pairs;
          if (inside && positive && (i < j || !kSharedShift)) p_.positive[i] = x[m][n][e];
          // With a shared shift, the pair (i, j) counts for both where i < j.
          const bool counts = inside && (kSharedShift ? i < j : i != j);
          if (!counts) x[m][n][e] = -INFINITY;
        }
      }
    }
  }

  static SIMCLR_DEVICE int column_sums(int stage) {
    return C::kSumsOffset + stage * C::kWarps * C::kColumns * 4;
  }

  // Adds the tile to the rows' sums, and leaves the warp's sums of its columns at `column_sum`.
  SIMCLR_DEVICE void sum_both(float (&x)[C::kRowTiles][C::kColumnTiles][4], int column_sum) {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      float column[2] = {0.0f, 0.0f};
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const float value = exp2_fast(x[m][n][e]);
          row_sum_[m][e / 2] += value;
          column[e % 2] += value;
        }
      }
      // Over the lanes that hold the same columns; each of two halves of them then keeps one.
      const bool odd = lane_id() & 4;
      const float sent = shuffle_xor(odd ? column[0] : column[1], 4);
      float sum = (odd ? column[1] : column[0]) + sent;
      sum += shuffle_xor(sum, 8);
      sum += shuffle_xor(sum, 16);
      if (lane_id() < 8) {
        shared_store(column_sum, warp_id() * C::kColumns + column_of(n, odd ? 1 : 0), sum);
      }
    }
  }

  // Adds the warps' sums of a tile's columns to what the tiles of rows before have left.
  SIMCLR_DEVICE void add_column_sums(int stage, int first_column) {
    if constexpr (!kSharedShift) return;
    const int column = thread_id();
    const int j = first_column + column;
    if (column < C::kColumns && j < p_.rows.count) add_column_sum(stage, column, j);
    sync_warp();  // what follows takes whole warps
  }
  SIMCLR_DEVICE void add_column_sum(int stage, int column, int j) {
    float sum = 0.0f;
    SIMCLR_UNROLL
    for (int w = 0; w < C::kWarps; ++w) {
      sum += shared_load(column_sums(stage), w * C::kColumns + column);
    }
    const int slot = pair_.a == pair_.b ? p_.strips : pair_.a;
    float* total = p_.partial_sum + int64_t{slot} * p_.rows.count + j;
    const bool first = first_row_ == pair_.a * p_.strip_rows;
    *total = first ? sum : *total + sum;
  }

  // Adds the tile to the rows' sums, which follow when a row's largest exponent rises.
  SIMCLR_DEVICE void sum_rows(float (&x)[C::kRowTiles][C::kColumnTiles][4]) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float largest = row_max_[m][half];
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          largest = fmaxf(largest, fmaxf(x[m][n][2 * half], x[m][n][2 * half + 1]));
        }
        float sum = row_sum_[m][half] * exp2_fast(row_max_[m][half] - largest);
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          sum += exp2_fast(x[m][n][2 * half] - largest);
          sum += exp2_fast(x[m][n][2 * half + 1] - largest);
        }
        row_sum_[m][half] = sum;
        row_max_[m][half] = largest;
      }
    }
  }

  // Joins the four lanes that share a row.
  SIMCLR_DEVICE void store_row_sums() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        float sum = row_sum_[m][half];
        float largest = row_max_[m][half];
        SIMCLR_UNROLL
        for (int lanes = 1; lanes <= 2; lanes *= 2) {
          const float other_sum = shuffle_xor(sum, lanes);
          const float other_largest = shuffle_xor(largest, lanes);
          const float both = fmaxf(largest, other_largest);
          sum = sum * exp2_fast(largest - both) + other_sum * exp2_fast(other_largest - both);
          largest = both;
        }
        const int i = first_row_ + row_of<C>(m, 2 * half);
        if (lane_id() % 4 != 0 || i >= p_.rows.count) continue;
        const int64_t place = int64_t{pair_.b} * p_.rows.count + i;
        p_.partial_sum[place] = sum;
        if constexpr (!kSharedShift) p_.partial_max[place] = largest;
      }
    }
  }

  const ForwardParams& p_;
  StripPair pair_;
  int first_row_;
  float row_scale_[C::kRowTiles][2];
  float row_sum_[C::kRowTiles][2];
  float row_max_[C::kRowTiles][2];
};

template <typename C, bool kSharedShift>
SIMCLR_KERNEL(C::kThreads, 2)
void forward_kernel(const ForwardParams p) {
  ForwardBlock<C, kSharedShift>(p).run();
}

}  // namespace simclr::fused
