// How rows and columns are cut into strips, of which a block visits one, or a pair. It depends on
// their numbers and on the tiles alone, not on the device that is there: so results have the same
// bits on every device.

#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "common/limits.h"
#include "common/range.h"
#include "cuda/kernels.h"

namespace simclr::fused {

// What strips are made for.
struct Grid {
  // Of a side in the forward pass: enough blocks for a large device, few enough that their sums
  // take little memory beside the rows.
  int64_t max_strips;
  // A side is cut into at most so many strips of whole tiles of columns, if none is then longer
  // than a tile of rows.
  int64_t few_strips;
  // Of the device that the backward pass has its blocks for, two on each.
  int64_t multiprocessors;
};
// Almost an H100.
constexpr Grid kLargeDevice{.max_strips = 64, .few_strips = 16, .multiprocessors = 128};

// The strips of a side in the forward pass.
inline Strips forward_strips(Range side, TileShape tile, const Grid& grid) {
  const auto cut = [&](int64_t strips, int64_t unit) {
    return divide_up(side.size(), strips * unit) * unit;
  };
  const int64_t fine = cut(grid.few_strips, tile.columns);
  const int64_t size = fine <= tile.rows ? fine : cut(grid.max_strips, tile.rows);
  return {static_cast<int>(size), static_cast<int>(divide_up(side.size(), size))};
}

// The strips of the columns in the backward pass, which has a block for each tile of rows and each
// strip: their number with the shortest estimated time, as if no other side had blocks. Partial
// gradients of several strips take a limited amount of memory: their blocks are at most four waves.
inline Strips backward_strips(Range rows, Range columns, TileShape tile, const Grid& grid) {
  // In thirds of a tile's time where two blocks share a multiprocessor. One that is alone waits for
  // its own exponentials.
  constexpr int64_t kTwo = 6;
  constexpr int64_t kAlone = 4;
  // In tiles: to write a block's partial gradient, and to read it again.
  constexpr int64_t kPartialGradient = 2;
  const int64_t row_tiles = divide_up(rows.size(), tile.rows);
  const int64_t column_tiles = std::max<int64_t>(divide_up(columns.size(), tile.columns), 1);
  const int64_t wave = 2 * grid.multiprocessors;  // blocks at once
  int64_t tiles = column_tiles;                   // of a strip
  int64_t least = std::numeric_limits<int64_t>::max();
  const int64_t most =
      std::clamp<int64_t>(4 * wave / std::max<int64_t>(row_tiles, 1), 1, column_tiles);
  for (int64_t strips = 1; strips <= most; ++strips) {
    const int64_t blocks = row_tiles * strips;
    const int64_t rest = blocks % wave;
    const int64_t last = rest == 0 ? 0 : rest <= grid.multiprocessors ? kAlone : kTwo;
    const int64_t time =
        (divide_up(column_tiles, strips) + kPartialGradient) * (blocks / wave * kTwo + last);
    if (time >= least) continue;
    least = time;
    tiles = divide_up(column_tiles, strips);
  }
  return {static_cast<int>(tiles * tile.columns), static_cast<int>(divide_up(column_tiles, tiles))};
}

}  // namespace simclr::fused
