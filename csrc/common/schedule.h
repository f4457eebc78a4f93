// How the matrix of similarities is cut into tiles, and in which order they are visited.
//
// Rows and columns are split into blocks of nearly equal size. A symmetric matrix is visited only
// on and above the diagonal, by a tournament; any other is a grid. In each round a block of rows is
// paired with at most one block of columns, and vice versa. So the tiles of a round may be visited
// at the same time, each adding to its rows and to its columns, without atomics and without copies
// per thread.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/pairing.h"
#include "common/range.h"

namespace simclr {

// The tile sizes, measured on the CPU.
//
// A tile of 512 x 512 floats is 1 MiB: it stays in a core's L2 cache between the matrix product
// that writes it and the passes that read it.
constexpr int64_t kMaxBlockRows = 512;
// Smaller blocks waste less on the diagonal, whose tiles hold every pair twice, and give more
// threads something to do; below 256 rows the matrix products slow down.
constexpr int64_t kGoodBlockRows = 256;
constexpr int64_t kGoodBlocks = 8;
constexpr int64_t kMinBlocks = 4;
// Up to this many rows, one tile is faster than the schedule and waking other threads.
constexpr int64_t kMaxSingleTile = 128;

// Splits rows into `count` blocks. The count depends only on numbers of rows, never on the number
// of threads: it determines the order of summation, hence every bit of the result.
class Blocks {
 public:
  Blocks(Range rows, int64_t count) : rows_(rows), count_(count) {}

  int64_t count() const { return count_; }
  int64_t max_rows() const { return (rows_.size() + count_ - 1) / count_; }
  Range operator[](int64_t b) const {
    const int64_t size = rows_.size();
    return {rows_.begin + b * size / count_, rows_.begin + (b + 1) * size / count_};
  }
  // The block that begins with this row.
  int64_t find(int64_t begin) const {
    const int64_t size = rows_.size();
    return ((begin - rows_.begin) * count_ + size - 1) / size;
  }

 private:
  Range rows_;
  int64_t count_;
};

// Round-robin tournament over B blocks, B even or 1 (circle method): every pair a <= b occurs
// exactly once, and every round has each block once.
//
// Round 0 holds the diagonal pairs (b, b); the rounds after it hold the rest.
class Tournament {
 public:
  struct Match {
    int64_t round;
    int64_t a;
    int64_t b;  // >= a
  };

  explicit Tournament(int64_t num_blocks) : num_blocks_(num_blocks) {}

  int64_t num_matches() const { return num_blocks_ * (num_blocks_ + 1) / 2; }

  // The matches in the order of the rounds, 0 <= k < num_matches().
  Match match(int64_t k) const {
    if (k < num_blocks_) return {0, k, k};
    const int64_t per_round = num_blocks_ / 2;
    const int64_t ring = num_blocks_ - 1;  // all blocks except the last form a ring that rotates
    const int64_t turn = (k - num_blocks_) / per_round;
    const int64_t seat = (k - num_blocks_) % per_round;
    const int64_t x = seat == 0 ? ring : (turn + seat) % ring;
    const int64_t y = (turn - seat + ring) % ring;
    return {turn + 1, std::min(x, y), std::max(x, y)};
  }

 private:
  int64_t num_blocks_;
};

// Every pair of a block of rows and a block of columns once. The side with more blocks has B; in
// round r, block i of the other side is paired with its block (i + r) mod B.
class Grid {
 public:
  struct Match {
    int64_t round;
    int64_t few;
    int64_t many;
    int64_t many_before;  // earlier matches of the block `many`, which is idle in some rounds
  };

  Grid(int64_t few, int64_t many) : few_(few), many_(many) {}

  int64_t num_matches() const { return few_ * many_; }

  Match match(int64_t k) const {
    const int64_t round = k / few_;
    const int64_t i = k % few_;
    const int64_t j = (i + round) % many_;
    // Block j is paired with i = few - 1, ..., 0 in rounds (j - i) mod B, which may wrap around.
    const int64_t first = j - few_ + 1;
    const int64_t before =
        first >= 0 ? round - first
                   : std::min(round, j + 1) + std::max<int64_t>(round - (first + many_), 0);
    return {round, i, j, before};
  }

 private:
  int64_t few_;
  int64_t many_;
};

class Schedule {
 public:
  explicit Schedule(const Problem& problem)
      : symmetric_(problem.symmetric()),
        rows_overlap_columns_(problem.same()),
        rows_(problem.rows, symmetric_ ? triangle_count(problem.rows.size())
                                       : grid_count(problem.rows, problem.columns)),
        columns_(problem.columns,
                 symmetric_ ? rows_.count() : grid_count(problem.columns, problem.rows)) {}

  const Blocks& rows() const { return rows_; }
  const Blocks& columns() const { return columns_; }
  int64_t max_rows() const { return rows_.max_rows(); }
  int64_t max_columns() const { return columns_.max_rows(); }
  // All rows of z, in blocks.
  std::vector<Range> all() const {
    std::vector<Range> ranges;
    for (const Blocks* part : {&rows_, &columns_}) {
      if (part == &rows_ && rows_overlap_columns_) continue;
      for (int64_t b = 0; b < part->count(); ++b) ranges.push_back((*part)[b]);
    }
    return ranges;
  }
  // The most matches that can be visited at the same time.
  int64_t width() const { return std::max<int64_t>(1, std::min(rows_.count(), columns_.count())); }

  // One slot per block that is added to: the blocks of rows, then those of columns if they differ.
  int64_t num_slots() const { return rows_.count() + (symmetric_ ? 0 : columns_.count()); }

  // A block of rows paired with a block of columns. It is visited after `row_turn` earlier matches
  // of the former and `column_turn` of the latter.
  struct Match {
    int64_t row_block;
    int64_t column_block;
    int64_t row_slot;
    int64_t column_slot;
    int64_t row_turn;
    int64_t column_turn;
  };

  int64_t num_matches() const {
    return symmetric_ ? Tournament(rows_.count()).num_matches() : rows_.count() * columns_.count();
  }

  // 0 <= k < num_matches(). Earlier matches of the same blocks have smaller k.
  Match match(int64_t k) const {
    if (symmetric_) {
      const auto [round, a, b] = Tournament(rows_.count()).match(k);
      return {a, b, a, b, round, round};
    }
    const int64_t row_blocks = rows_.count();
    if (row_blocks <= columns_.count()) {
      const auto [round, few, many, before] = Grid(row_blocks, columns_.count()).match(k);
      return {few, many, few, row_blocks + many, round, before};
    }
    const auto [round, few, many, before] = Grid(columns_.count(), row_blocks).match(k);
    return {many, few, many, row_blocks + few, before, round};
  }

  // The halves of a block whose diagonal tile is cut; otherwise all is in the first.
  struct Halves {
    Range upper;
    Range lower;
  };
  static Halves halves(Range block, int64_t max_whole = kGoodBlockRows) {
    if (block.size() <= max_whole) return {block, {block.end, block.end}};
    const int64_t middle = block.begin + block.size() / 2;
    return {{block.begin, middle}, {middle, block.end}};
  }

  // The tiles of a match. Half of a diagonal tile repeats the other half, so a large diagonal block
  // is cut into four, of which the lower left one, a quarter of the work, is left out.
  std::vector<Tile> tiles(const Match& match) const {
    const Range rows = rows_[match.row_block];
    const Range columns = columns_[match.column_block];
    const bool diagonal = symmetric_ && match.row_block == match.column_block;
    const auto [upper, lower] = halves(rows);
    if (!diagonal || lower.size() == 0) return {{rows, columns, diagonal}};
    return {{upper, upper, true}, {upper, lower, false}, {lower, lower, true}};
  }

 private:
  static int64_t good_count(int64_t size) {
    const int64_t good = std::clamp(size / kGoodBlockRows, kMinBlocks, kGoodBlocks);
    return std::max(good, (size + kMaxBlockRows - 1) / kMaxBlockRows);
  }
  static int64_t triangle_count(int64_t size) {
    if (size <= kMaxSingleTile) return 1;
    const int64_t blocks = good_count(size);
    return blocks + blocks % 2;  // even, for the tournament; and no block is in both views
  }
  // A side of few rows is split too: only one thread at a time can work on a block.
  static int64_t grid_count(Range side, Range other) {
    const bool single = side.size() <= kMaxSingleTile && other.size() <= kMaxSingleTile;
    return single ? 1 : std::min(good_count(side.size()), side.size());
  }

  bool symmetric_;
  bool rows_overlap_columns_;
  Blocks rows_;
  Blocks columns_;
};

}  // namespace simclr
