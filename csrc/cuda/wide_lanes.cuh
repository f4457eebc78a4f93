// Joins what the lanes of a warp have of its rows.

#pragma once

#include "cuda/wide_tile.cuh"

namespace simclr::fused {

// One step of `join_lanes`, in which lanes keep kKept of their rows.
template <int kKept, typename Part, int kRows>
SIMCLR_DEVICE void join_half(Part (&rows)[kRows]) {
  constexpr int kLanes = 4 * kKept;
  const bool upper = thread_id() & kLanes;
  SIMCLR_UNROLL
  for (int r = 0; r < kKept; ++r) {
    const Part given = upper ? rows[r] : rows[r + kKept];
    if (upper) rows[r] = rows[r + kKept];
    rows[r].join(given.of_lane(kLanes));
  }
}

// Each lane has a part of every row; returns the whole of row lane / 4. In each step, a lane gives
// away half of its rows and gets the other lane's parts of those that it keeps: half as many
// shuffles, and of those again half, as if all lanes kept all rows.
template <typename Part>
SIMCLR_DEVICE Part join_lanes(Part (&rows)[WideShape::kWarpRows]) {
  static_assert(WideShape::kWarpRows == 8);
  join_half<4>(rows);
  join_half<2>(rows);
  join_half<1>(rows);
  rows[0].join(rows[0].of_lane(2));
  rows[0].join(rows[0].of_lane(1));
  return rows[0];
}

// Where the sums of row lane / 4 of the warp are: in the slot of the block's columns. -1 for all
// but one of the four lanes, and for rows outside of the tile.
SIMCLR_DEVICE int64_t row_place(const Problem& problem, const WideBlock& block) {
  const int i = block.row(thread_id() % 32 / 4);
  if (thread_id() % 4 != 0 || !block.has_row(i)) return -1;
  return block.column_block() * problem.rows.size() + i - problem.rows.begin;
}

}  // namespace simclr::fused
