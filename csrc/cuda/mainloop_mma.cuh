// The main loop of a block: a tile of rows stays in shared memory or in registers, tiles of columns
// pass through two stages in shared memory, and tensor cores compute two products:
//
//   S = R C^T      [kRows, kColumns], for a tile of rows R and a tile of columns C
//   G += W C       [kRows, kDim], with weights W in the accumulators of S
//
// In lane l, element e of accumulator (m, n) belongs to row 16 m + l / 4 + 8 (e / 2) of the warp's
// rows, and to column 8 n + 2 (l % 4) + e % 2 of the tile's.

#pragma once

#include "cuda/block.cuh"
#include "cuda/config.cuh"
#include "cuda/params.h"

namespace simclr::fused {

// Row of the block and column of the tile that an accumulator's element belongs to.
template <typename C>
SIMCLR_DEVICE int row_of(int m, int e, unsigned thread = thread_id()) {
  return thread / 32 * C::kWarpRows + 16 * m + thread % 32 / 4 + 8 * (e / 2);
}
SIMCLR_DEVICE int column_of(int n, int e) { return 8 * n + 2 * (lane_id() % 4) + e % 2; }

// The offset of a unit of a row in its tile (swizzled). Without the swizzle, the units of eight
// rows at one column would be in the same banks; permuting the units of each row differently puts
// them in different banks. If u and k have no bit in common, unit u + k is at the offset of unit u
// with the bits of k * kUnitBytes flipped, and the unit 8 n rows below is n * 8 * kRowBytes further
// on: so a lane computes one offset, and all others follow by constants.
template <typename C>
SIMCLR_DEVICE int unit_offset(int row, int unit) {
  const int phase = C::kUnits >= 8 ? row % 8 : (row / 2) % 4;
  return row * C::kRowBytes + (unit ^ phase) * kUnitBytes;
}

// Starts to copy the rows of z from `first_row` on into a tile, kTileRows of them or up to
// `end_row`. Rows past the end and the padding of D become zeros: nothing is read for them, but
// their addresses are in range.
template <typename C, int kTileRows>
SIMCLR_DEVICE void copy_tile_async(int tile, const Rows& rows, int first_row, int end_row) {
  constexpr int kPassRows = C::kThreads / C::kUnits;  // rows that the block copies at once
  static_assert(C::kThreads % C::kUnits == 0 && kTileRows % kPassRows == 0);
  // Unsigned, so that division compiles to a shift.
  const auto thread = static_cast<unsigned>(opaque(thread_id()));
  const int row = thread / C::kUnits;
  const int unit = thread % C::kUnits;
  const int end = unit * C::kUnitElements < rows.stride ? end_row - first_row : 0;
  const auto* source = static_cast<const typename C::Storage*>(rows.z);
  source += row < end ? int64_t{first_row + row} * rows.stride + unit * C::kUnitElements : 0;
  SIMCLR_UNROLL
  for (int pass = 0; pass < kTileRows; pass += kPassRows) {
    copy_async_16(tile + unit_offset<C>(row + pass, unit), source, row + pass < end);
    source += row + pass + kPassRows < end ? int64_t{kPassRows} * rows.stride : 0;
  }
}

// The same for one number per column of a tile.
template <typename C>
SIMCLR_DEVICE void copy_terms_async(int terms, const float* source, int first_column,
                                    int end_column) {
  const int column = thread_id();
  if (column >= C::kColumns) return;
  const int j = first_column + column;
  copy_async_4(terms + 4 * column, source + (j < end_column ? j : first_column), j < end_column);
}

// The left operand of S, the warp's rows, loaded again for every tile of columns.
template <typename C>
class LoadedRows {
 public:
  using Operand = typename C::Element::A[C::kRowTiles];

  explicit SIMCLR_DEVICE LoadedRows(int tile)
      : tile_(tile),
        offset_(opaque(unit_offset<C>(warp_id() * C::kWarpRows + lane_id() % 16, lane_id() / 16))) {
  }

  SIMCLR_DEVICE void get(Operand& a, int step) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      uint32_t raw[4];
      const int offset = offset_ ^ (step * kStepUnits * kUnitBytes);
      load_matrices(raw, tile_ + offset + 16 * m * C::kRowBytes);
      a[m] = C::Element::a_from_memory(raw);
    }
  }

 private:
  int tile_;
  int offset_;
};

// The same, kept in registers for all tiles of columns.
template <typename C>
class KeptRows {
 public:
  using Operand = typename LoadedRows<C>::Operand;

  SIMCLR_DEVICE void load(int tile) {
    const LoadedRows<C> rows(tile);
    SIMCLR_UNROLL
    for (int step = 0; step < C::kSteps; ++step) rows.get(kept_[step], step);
  }

  SIMCLR_DEVICE void get(Operand& a, int step) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) a[m] = kept_[step][m];
  }

 private:
  Operand kept_[C::kSteps];
};

// s = R C^T for the warp's rows.
template <typename C, typename LeftRows>
SIMCLR_DEVICE void multiply_rows(float (&s)[C::kRowTiles][C::kColumnTiles][4], const LeftRows& rows,
                                 int columns) {
  using Element = typename C::Element;
  const int lane = lane_id();
  SIMCLR_UNROLL
  for (int m = 0; m < C::kRowTiles; ++m) {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) s[m][n][e] = 0.0f;
    }
  }
  const int column = opaque(unit_offset<C>(lane % 8 + 8 * (lane / 16), lane / 8 % 2));
  SIMCLR_UNROLL
  for (int step = 0; step < C::kSteps; ++step) {
    const int flip = step * kStepUnits * kUnitBytes;
    typename Element::A a[C::kRowTiles];
    rows.get(a, step);
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; n += 2) {
      uint32_t raw[4];
      load_matrices(raw, columns + (column ^ flip) + 8 * n * C::kRowBytes);
      const auto b0 = Element::b_from_memory(raw[0], raw[1]);
      const auto b1 = Element::b_from_memory(raw[2], raw[3]);
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        Element::mma(s[m][n], a[m], b0);
        Element::mma(s[m][n + 1], a[m], b1);
      }
    }
  }
}

// The right operand of one step of W C: the columns from `accumulator` on, for dimensions 8 d to
// 8 d + 15.
template <typename C>
SIMCLR_DEVICE void load_dimensions(typename C::Element::B (&b)[2], int columns, int accumulator,
                                   int d) {
  using Element = typename C::Element;
  const int lane = lane_id();
  const int first = columns + 8 * accumulator * C::kRowBytes;
  if constexpr (sizeof(typename C::Storage) == 2) {
    uint32_t raw[4];
    const int offset = opaque(unit_offset<C>(lane % 16, lane / 16));
    load_matrices_transposed(raw, first + (offset ^ (d * kUnitBytes)));
    b[0] = Element::b_from_memory(raw[0], raw[1]);
    b[1] = Element::b_from_memory(raw[2], raw[3]);
  } else {
    SIMCLR_UNROLL
    for (int i = 0; i < 2; ++i) {
      uint32_t raw[2];
      SIMCLR_UNROLL
      for (int k = 0; k < 2; ++k) {
        // Eight floats are two units.
        const int offset = opaque(unit_offset<C>(2 * (lane % 4) + k, lane / 16) + lane / 4 % 4 * 4);
        raw[k] = shared_load_bits(first + (offset ^ (2 * (d + i) * kUnitBytes)));
      }
      b[i] = Element::b_from_memory(raw[0], raw[1]);
    }
  }
}

// grad += W C for the warp's rows.
template <typename C>
SIMCLR_DEVICE void multiply_weights(float (&grad)[C::kRowTiles][C::kDim / 8][4],
                                    const float (&w)[C::kRowTiles][C::kColumnTiles][4],
                                    int columns) {
  using Element = typename C::Element;
  SIMCLR_UNROLL
  for (int n = 0; n < C::kColumnTiles; n += Element::kAccumulatorsPerStep) {
    typename Element::A a[C::kRowTiles];
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) a[m] = Element::a_from_weights(&w[m][n]);
    SIMCLR_UNROLL
    for (int d = 0; d < C::kDim / 8; d += 2) {
      typename Element::B b[2];
      load_dimensions<C>(b, columns, n, d);
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        Element::mma(grad[m][d], a[m], b[0]);
        Element::mma(grad[m][d + 1], a[m], b[1]);
      }
    }
  }
}

// The stages of the copy: a tile of columns, and the terms that are copied with it.
template <typename C>
SIMCLR_DEVICE int stage_tile(int stage) {
  return C::kStagesOffset + stage * C::kStageBytes;
}
template <typename C>
SIMCLR_DEVICE int stage_terms(int stage, int term) {
  return stage_tile<C>(stage) + C::kTileBytes + term * C::kColumns * 4;
}

// The loop over columns first_column to end_column. With each tile of columns, kTerms numbers per
// column are copied.
template <typename C, int kTerms>
class MainLoop {
 public:
  template <typename... Terms>
  SIMCLR_DEVICE MainLoop(const Rows& rows, int first_column, int end_column, Terms... terms)
      : rows_(rows), first_column_(first_column), end_column_(end_column), terms_{terms...} {}

  // Starts to copy the tile of rows and, unless keep() follows, the first tile of columns. There
  // must be a barrier between all reads of earlier tiles and this call.
  SIMCLR_DEVICE void start(int first_row, int end_row) const {
    copy_tile_async<C, C::kRows>(kRowsOffset, rows_, first_row, end_row);
    if constexpr (C::kKeepsRows) {
      copy_async_commit();
    } else {
      fetch(0, first_column_);
    }
  }

  // Loads the rows that are kept, and only then starts to copy the first tile of columns, which
  // takes their place in shared memory.
  SIMCLR_DEVICE void keep(KeptRows<C>& rows) const {
    static_assert(C::kKeepsRows);
    copy_async_wait<0>();
    sync_threads();
    rows.load(kRowsOffset);
    sync_threads();
    fetch(0, first_column_);
  }

  // Calls visit(stage, first column) for one tile of columns after the other, while the next one is
  // being copied.
  template <typename Visit>
  SIMCLR_DEVICE void for_each_column_tile(const Visit& visit) const {
    int stage = 0;
    for (int column = first_column_; column < end_column_; column += C::kColumns) {
      copy_async_wait<0>();
      // After this barrier, all threads see this stage full and are done with the other one.
      sync_threads();
      if (column + C::kColumns < end_column_) fetch(stage ^ 1, column + C::kColumns);
      visit(stage, column);
      stage ^= 1;
    }
  }

 private:
  SIMCLR_DEVICE void fetch(int stage, int column) const {
    copy_tile_async<C, C::kColumns>(stage_tile<C>(stage), rows_, column, end_column_);
    SIMCLR_UNROLL
    for (int t = 0; t < kTerms; ++t) {
      copy_terms_async<C>(stage_terms<C>(stage, t), terms_[t], column, end_column_);
    }
    copy_async_commit();
  }

  const Rows& rows_;
  int first_column_;
  int end_column_;
  const float* terms_[kTerms];
};

}  // namespace simclr::fused
