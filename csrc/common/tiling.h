// How the 2N x 2N matrix is cut into tiles, and in which order they are visited.
//
// The rows are split into B blocks of nearly equal size. The matrix is symmetric, so only the tiles
// of the pairs of blocks (a, b) with a <= b are visited.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace simclr {

struct BlockPair {
  int64_t a;
  int64_t b;  // >= a
};

// Half-open range of rows.
struct Range {
  int64_t begin;
  int64_t end;
  int64_t size() const { return std::max<int64_t>(end - begin, 0); }
};

inline Range intersect(Range x, Range y) {
  return {std::max(x.begin, y.begin), std::min(x.end, y.end)};
}

// A tile's place in the matrix. Its rows lie before its columns or, in a diagonal tile, are the
// same.
struct Tile {
  Range rows;
  Range columns;
  bool diagonal() const { return rows.begin == columns.begin; }
};

// Splits `num_rows` rows into blocks. Depends on the number of rows alone, never on the number of
// threads: the order of summation, hence every bit of the result, follows from it.
class Blocks {
 public:
  // A tile of 512 x 512 floats is 1 MiB: it stays in a core's L2 cache between the matrix product
  // that writes it and the passes that read it.
  static constexpr int64_t kMaxRows = 512;
  // Smaller blocks waste less on the diagonal, whose tiles hold every pair twice, and leave more to
  // share between threads; below 256 rows the matrix products slow down.
  static constexpr int64_t kGoodRows = 256;
  static constexpr int64_t kGoodBlocks = 8;
  static constexpr int64_t kMinBlocks = 4;
  // Up to here one tile is faster than the schedule and the wake-up of other threads.
  static constexpr int64_t kMaxSingle = 128;

  explicit Blocks(int64_t num_rows) : num_rows_(num_rows), count_(count_for(num_rows)) {}

  int64_t count() const { return count_; }
  int64_t max_rows() const { return (num_rows_ + count_ - 1) / count_; }
  Range operator[](int64_t b) const {
    return {b * num_rows_ / count_, (b + 1) * num_rows_ / count_};
  }

  // The block that a row lies in.
  int64_t block_of(int64_t row) const { return ((row + 1) * count_ - 1) / num_rows_; }

  // The tiles of a pair of blocks. Half of a diagonal tile repeats the other half, so the diagonal
  // of a large block is cut once more: what is left out below it is a quarter of the block's
  // square.
  std::vector<Tile> tiles(BlockPair pair) const {
    const Range rows = (*this)[pair.a];
    const Range columns = (*this)[pair.b];
    if (pair.a != pair.b || rows.size() <= kGoodRows) return {{rows, columns}};
    const int64_t middle = rows.begin + rows.size() / 2;
    const Range upper{rows.begin, middle};
    const Range lower{middle, rows.end};
    return {{upper, upper}, {upper, lower}, {lower, lower}};
  }

 private:
  static int64_t count_for(int64_t num_rows) {
    if (num_rows <= kMaxSingle) return 1;
    const int64_t good = std::clamp(num_rows / kGoodRows, kMinBlocks, kGoodBlocks);
    const int64_t blocks = std::max(good, (num_rows + kMaxRows - 1) / kMaxRows);
    return blocks + blocks % 2;  // even: as the tournament asks, and no block straddles the views
  }

  int64_t num_rows_;
  int64_t count_;
};

// Round-robin tournament over B blocks, B even or 1 (circle method): every pair a <= b plays
// exactly once, and in every round each block plays once. So the tiles of a round may be visited at
// the same time, each adding to its two blocks, without atomics and without copies per thread.
//
// Round 0 holds the diagonal pairs (b, b); the rounds after it hold the rest.
class Tournament {
 public:
  struct Match {
    int64_t round;
    BlockPair pair;
  };

  explicit Tournament(int64_t num_blocks) : num_blocks_(num_blocks) {}

  int64_t num_matches() const { return num_blocks_ * (num_blocks_ + 1) / 2; }

  // The matches in the order of the rounds, 0 <= k < num_matches().
  Match match(int64_t k) const {
    if (k < num_blocks_) return {0, {k, k}};
    const int64_t per_round = num_blocks_ / 2;
    const int64_t ring = num_blocks_ - 1;  // all blocks but the last sit on a ring that turns
    const int64_t turn = (k - num_blocks_) / per_round;
    const int64_t seat = (k - num_blocks_) % per_round;
    const int64_t x = seat == 0 ? ring : (turn + seat) % ring;
    const int64_t y = (turn - seat + ring) % ring;
    return {turn + 1, {std::min(x, y), std::max(x, y)}};
  }

 private:
  int64_t num_blocks_;
};

}  // namespace simclr
