// Sums of the exponentials of all rows, S never stored:
//
//   l_i = sum_j 2^(x_ij - shift) over the pairs that count,
//   x_ij = scale factor_i factor_j (row_i . row_j)
//
// Rows and columns are cut into strips, and a block visits the pairs of two strips, tile by tile:
// its rows' sums stay in registers, its columns' sums are added to partial sums after each tile.
// For a symmetric problem only strips a <= b are visited. So every pair is visited once, each
// partial sum has one writer, and they are added in a fixed order: the same bits every time.
//
// Without a shared shift, a block visits all pairs of two strips, and sums for its rows only. If
// the columns have sums too, the same number of further blocks visits the transposed problem.

#pragma once

#include "cuda/row_stats.cuh"
#include "cuda/row_sums.cuh"
#include "cuda/sigmoid_sums.cuh"
#include "cuda/tile_bits.cuh"

namespace simclr::fused {

// The strips of a block: a of rows, b of columns. Blocks are numbered along the rows of the matrix
// of strips, or of its upper triangle, a <= b; those of the transposed problem follow.
struct StripPair {
  int a;
  int b;
  bool transposed;
};
template <bool kSharedShift>
SIMCLR_DEVICE StripPair strip_pair(const ForwardParams& p) {
  int block = block_id();
  const int rows = p.row_strips.count;
  const int columns = p.column_strips.count;
  if (kSharedShift && p.problem.symmetric()) {
    int a = 0;
    for (int row = columns; block >= row; --row, ++a) block -= row;
    return {a, a + block, false};
  }
  if (kSharedShift || block < rows * columns) return {block / columns, block % columns, false};
  block -= rows * columns;
  return {block / rows, block % rows, true};
}

// Sums: what is summed, RowSums, RowStats or SigmoidSums.
// kLabels: whether the positives may be those with equal labels.
template <typename C, typename Sums, bool kLabels>
class ForwardBlock {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE ForwardBlock(const ForwardParams& p, const Arguments&... of_sums)
      : p_(p),
        triangle_(kSharedShift && p.problem.symmetric()),
        strips_(strip_pair<kSharedShift>(p)),
        sums_(of_sums...) {
    const auto [rows, columns] = problem_of_side(p.problem, strips_.transposed);
    const int row_size = p.strips_of(strips_.transposed).size;
    const int column_size = p.strips_of(!strips_.transposed).size;
    first_strip_row_ = to_int(rows.begin) + strips_.a * row_size;
    end_row_ = min_of(first_strip_row_ + row_size, to_int(rows.end));
    first_strip_column_ = to_int(columns.begin) + strips_.b * column_size;
    end_column_ = min_of(first_strip_column_ + column_size, to_int(columns.end));
  }

  SIMCLR_DEVICE void run() {
    for (int row = first_strip_row_; row < end_row_; row += C::kRows) visit_row_tile(row);
  }

 private:
  static constexpr bool kSharedShift = Sums::kSharedShift;
  struct Nothing {};
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  static SIMCLR_DEVICE int min_of(int x, int y) { return x < y ? x : y; }

  SIMCLR_DEVICE void visit_row_tile(int first_row) {
    first_row_ = first_row;
    // If both strips are the same, a tile of rows begins with its own columns.
    const bool diagonal = triangle_ && strips_.a == strips_.b;
    const MainLoop<C, 1> loop(p_.rows, diagonal ? first_row : first_strip_column_, end_column_,
                              p_.rows.factor);
    // No barrier is needed: the one before the last column sums follows all reads of the tiles.
    loop.start(first_row, end_row_);
    load_row_scales();
    sums_.clear();
    if constexpr (C::kKeepsRows) loop.keep(rows_);
    int last_stage = 0;
    int previous = -1;  // first column of the previous tile
    loop.for_each_column_tile([&](int stage, int column) {
      if (previous >= 0) add_column_sums(stage ^ 1, previous);
      visit_tile(stage, column);
      last_stage = stage;
      previous = column;
    });
    sync_threads();
    add_column_sums(last_stage, previous);
    store_row_sums();
  }

  SIMCLR_DEVICE void load_row_scales() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = first_row_ + row_of<C>(m, 2 * half);
        row_scale_[m][half] = i < end_row_ ? sums_.scale(p_) * p_.rows.factor[i] : 0.0f;
      }
    }
  }

  SIMCLR_DEVICE void visit_tile(int stage, int first_column) {
    Tile x;
    if constexpr (C::kKeepsRows) {
      multiply_rows<C>(x, rows_, stage_tile<C>(stage));
    } else {
      multiply_rows<C>(x, LoadedRows<C>(kRowsOffset), stage_tile<C>(stage));
    }
    scale(x, stage_terms<C>(stage, 0));
    if (is_special(first_column)) treat_special(x, first_column);
    if constexpr (kLabels) {
      if (has_labels()) add_positives(x, first_column);
    }
    if constexpr (Sums::kSumsPositives) {
      if (p_.pairing.leaves_out()) {
        left_out<C, kLabels>(pairing(), place(first_column)).fill(x, -INFINITY);
      }
    }
    sums_.add(x, stage);
    if constexpr (Sums::kStats) {
      if (has_labels() || is_special(first_column)) {
        positives<C, kLabels>(pairing(), place(first_column)).fill(x, -INFINITY);
      }
      sums_.add_negatives(x, first_column);
    }
  }

  SIMCLR_DEVICE void scale(Tile& x, int factor) {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      const float column_factor[2] = {shared_load(factor, column_of(n, 0)),
                                      shared_load(factor, column_of(n, 1))};
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          x[m][n][e] = x[m][n][e] * row_scale_[m][e / 2] * column_factor[e % 2] - sums_.shift(p_);
        }
      }
    }
  }

  // Whether the tile has positives by a shift, or pairs that do not count.
  SIMCLR_DEVICE bool is_special(int first_column) const {
    const bool edge = first_row_ + C::kRows > end_row_ || first_column + C::kColumns > end_column_;
    return edge || meets_special<C>(p_.pairing, first_row_, first_column);
  }

  // Where a tile is. Its first row is hidden from the compiler, which must not hoist what is
  // computed from it: the loop has no registers to spare.
  SIMCLR_DEVICE TilePlace place(int first_column) const {
    return {opaque(first_row_), end_row_, first_column, end_column_};
  }

  // Stores the positives' exponents, then masks pairs that are not summed.
  SIMCLR_DEVICE void treat_special(Tile& x, int first_column) const {
    const TilePlace tile = place(first_column);
    store_positives(x, tile);
    mask(x, tile);
  }

  SIMCLR_DEVICE void store_positives(const Tile& x, const TilePlace& tile) const {
    const Pairing pairing = this->pairing();
    SIMCLR_UNROLL
    for (int k = 0; k < Pairing::kMaxShifts; ++k) {
      if (k >= pairing.shifts) continue;
      const int shift = to_int(pairing.shift[k]);
      float* positive = p_.positive + k * p_.problem.count();
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int i = tile.first_row + row_of<C>(m, 2 * half);
          const int j = i + shift;
          // In a triangle, the pair (i, j) with i < j counts for both rows.
          const bool counts = i < tile.end_row && j < tile.end_column && (!triangle_ || i < j);
          const uint32_t bit = element_bit<C>(half, j - tile.first_column);
          if (counts && bit != 0) positive[i] = element<C>(x[m], half, bit);
        }
      }
    }
  }

  SIMCLR_DEVICE void mask(Tile& x, const TilePlace& tile) const {
    TileBits<C> out;
    if constexpr (!Sums::kSumsPositives) out = positives<C, false>(pairing(), tile);
    if (p_.pairing.skip_self) out.add_shift(tile, 0);
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = tile.first_row + row_of<C>(m, 2 * half);
        const int first = triangle_ ? i : tile.first_column;
        const int end = i < tile.end_row ? tile.end_column : tile.first_column;
        SIMCLR_UNROLL
        for (int n = 0; n < C::kColumnTiles; ++n) {
          SIMCLR_UNROLL
          for (int e = 2 * half; e < 2 * half + 2; ++e) {
            const int j = tile.first_column + column_of(n, e);
            if (j < first || j >= end || out.has(m, n, e)) x[m][n][e] = -INFINITY;
          }
        }
      }
    }
  }

  SIMCLR_DEVICE bool has_labels() const { return p_.pairing.label != nullptr; }

  // Adds the exponents of pairs with equal labels to the sums of the rows' positives.
  SIMCLR_DEVICE void add_positives(const Tile& x, int first_column) const {
    TileBits<C> positive;
    positive.add_equal(place(first_column), p_.pairing.label);
    float* row_positive =
        p_.sums_of(strips_.transposed).positive + row_place(strips_.b, first_row_);
    RowSums<C, false>::add_positives(x, positive, end_row_ - first_row_, row_positive);
  }

  // Adds the warps' sums of a tile's columns to those of the previous tiles of rows.
  SIMCLR_DEVICE void add_column_sums(int stage, int first_column) {
    if constexpr (kSharedShift) {
      const int column = thread_id();
      const int j = first_column + column;
      if (column < C::kColumns && j < end_column_) add_column_sum(stage, column, j);
      sync_warp();  // what follows needs whole warps
    }
  }
  SIMCLR_DEVICE void add_column_sum(int stage, int column, int j) {
    const bool own_pairs = triangle_ && strips_.a == strips_.b;
    const int slot = own_pairs ? p_.row_strips.count : strips_.a;
    const int64_t place = int64_t{slot} * p_.problem.columns.size() + j - p_.problem.columns.begin;
    const float sum = Sums::column_sum(stage, column);
    float* total = p_.sums_of(!triangle_).sum + place;
    if (first_row_ == first_strip_row_) {
      owned(total) = sum;
    } else {
      add_to_owned(total, sum);
    }
  }

  SIMCLR_DEVICE void store_row_sums() const {
    sums_.store(p_, strips_.transposed, row_place(strips_.b, first_row_), end_row_ - first_row_);
  }

  // The place of the partial sum of row i over the columns of a strip.
  SIMCLR_DEVICE int64_t row_place(int strip, int i) const {
    const Range rows = problem_of_side(p_.problem, strips_.transposed).rows;
    return int64_t{strip} * rows.size() + i - rows.begin;
  }

  SIMCLR_DEVICE Pairing pairing() const { return pairing_of_side(p_.pairing, strips_.transposed); }

  const ForwardParams& p_;
  bool triangle_;
  StripPair strips_;
  int first_strip_row_;
  int end_row_;  // of the strip
  int first_strip_column_;
  int end_column_;
  int first_row_;
  float row_scale_[C::kRowTiles][2];
  std::conditional_t<C::kKeepsRows, KeptRows<C>, Nothing> rows_;
  Sums sums_;
};

// Three blocks on a multiprocessor leave 168 registers per thread: too few for rows and a tile that
// take more than 96.
template <typename C, bool kSharedShift>
constexpr int kMinForwardBlocks =
    kSharedShift && !(C::kKeepsRows && C::kKeptRegisters > 96) ? 3 : 2;

template <typename C, bool kSharedShift, bool kLabels>
SIMCLR_KERNEL(C::kThreads, (kMinForwardBlocks<C, kSharedShift>))
void forward_kernel(const ForwardParams p) {
  static_assert(!(kSharedShift && kLabels));
  if (!is_chosen(p.exponents)) return;
  ForwardBlock<C, RowSums<C, kSharedShift>, kLabels>(p).run();
}

template <typename C>
SIMCLR_KERNEL(C::kThreads, 2)
void stats_forward_kernel(const StatsForwardParams p) {
  ForwardBlock<C, RowStats<C>, true>(p.pass, p).run();
}

template <typename C>
SIMCLR_KERNEL(C::kThreads, 2)
void sigmoid_forward_kernel(const SigmoidForwardParams p) {
  ForwardBlock<C, SigmoidSums<C>, false>(p.pass, p).run();
}

}  // namespace simclr::fused
