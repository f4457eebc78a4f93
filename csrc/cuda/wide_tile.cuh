// A tile of similarities in device memory as a block of threads sees it: the block takes kRows x
// kColumns pairs, each of its warps kWarpRows whole rows of these, and a lane four adjacent
// columns.

#pragma once

#include "cuda/pairing.cuh"
#include "cuda/wide_params.h"

namespace simclr::fused {

struct WideShape {
  static constexpr int kThreads = kWideThreads;
  static constexpr int kWarps = kThreads / 32;
  static constexpr int kRows = kWideRows;
  static constexpr int kWarpRows = kRows / kWarps;
  static constexpr int kColumns = kWideColumns;
  static constexpr int kLaneColumns = kColumns / 32;
};

// What a lane holds of a block's pairs: of each of its warp's rows, its columns.
using WidePairs = float[WideShape::kWarpRows][WideShape::kLaneColumns];

// The elements that a lane loads or stores at once.
template <typename Storage>
struct alignas(sizeof(Storage) * WideShape::kLaneColumns) WideUnit {
  Storage element[WideShape::kLaneColumns];
};

// Plain numbers, and no reference to any object: the compiler keeps it in registers.
class WideBlock : WideShape {
 public:
  explicit SIMCLR_DEVICE WideBlock(const WideTile& tile)
      : diagonal_(tile.place.diagonal),
        tile_row_(to_int(tile.place.rows.begin)),
        end_row_(to_int(tile.place.rows.end)),
        tile_column_(to_int(tile.place.columns.begin)),
        end_column_(to_int(tile.place.columns.end)),
        s_(tile.s),
        stride_(tile.stride) {
    const int blocks = static_cast<int>(divide_up(end_column_ - tile_column_, kColumns));
    row_block_ = block_id() / blocks;
    column_block_ = block_id() % blocks;
    first_row_ = tile_row_ + row_block_ * kRows;
    first_column_ = tile_column_ + column_block_ * kColumns;
  }

  SIMCLR_DEVICE int row_block() const { return row_block_; }
  SIMCLR_DEVICE int column_block() const { return column_block_; }
  SIMCLR_DEVICE int first_column() const { return first_column_; }
  SIMCLR_DEVICE int row(int r) const { return first_row_ + thread_id() / 32 * kWarpRows + r; }
  SIMCLR_DEVICE int column(int e) const {
    return first_column_ + thread_id() % 32 * kLaneColumns + e;
  }
  SIMCLR_DEVICE bool has_row(int i) const { return i < end_row_; }
  SIMCLR_DEVICE bool has_column(int j) const { return j < end_column_; }

  // Whether a pair counts here: in a diagonal tile, (i, j) with i < j counts for both rows.
  SIMCLR_DEVICE bool counts(const Pairing& pairing, int i, int j) const {
    const bool inside = has_row(i) && has_column(j);
    return inside && (diagonal_ ? i < j : pairing.counts(i, j));
  }
  // Whether no pair counts, since all lie below the diagonal.
  SIMCLR_DEVICE bool is_empty() const {
    return diagonal_ && first_column_ + kColumns - 1 <= first_row_;
  }
  // Whether there are positives by a shift, or pairs that do not count.
  SIMCLR_DEVICE bool is_special(const Pairing& pairing) const {
    const bool edge = !has_row(first_row_ + kRows - 1) || !has_column(first_column_ + kColumns - 1);
    return edge || is_empty() || meets_special<WideShape>(pairing, first_row_, first_column_);
  }

  // Loads the similarities of stored rows; 0 outside of the tile.
  SIMCLR_DEVICE void load(WidePairs& s) const {
    SIMCLR_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      WideUnit<float> unit = {};
      if (has_row(row(r)) && has_column(column(0))) {
        unit = *reinterpret_cast<const WideUnit<float>*>(s_ + place(r));
      }
      SIMCLR_UNROLL
      for (int e = 0; e < kLaneColumns; ++e) s[r][e] = unit.element[e];
    }
  }
  // Stores elements of row r in a matrix with the strides of the tile.
  template <typename Storage>
  SIMCLR_DEVICE void store(Storage* matrix, int r, const WideUnit<Storage>& unit) const {
    if (!has_row(row(r)) || !has_column(column(0))) return;
    *reinterpret_cast<WideUnit<Storage>*>(matrix + place(r)) = unit;
  }

 private:
  SIMCLR_DEVICE int64_t place(int r) const {
    return int64_t{row(r) - tile_row_} * stride_ + column(0) - tile_column_;
  }

  bool diagonal_;
  int tile_row_;
  int end_row_;
  int tile_column_;
  int end_column_;
  const float* s_;
  int64_t stride_;
  int row_block_;
  int column_block_;
  int first_row_;
  int first_column_;
};

}  // namespace simclr::fused
