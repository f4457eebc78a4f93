// The blocks cover the rows, and every schedule visits every pair of blocks once, in turns.

#include <set>
#include <utility>
#include <vector>

#include "check.h"
#include "common/schedule.h"
#include "common/turns.h"

using simclr::Blocks;
using simclr::Problem;
using simclr::Range;
using simclr::Schedule;
using simclr::Tile;

void check_blocks(const Blocks& blocks, Range rows) {
  EXPECT(blocks.max_rows() <= simclr::kMaxBlockRows, rows.size(), blocks.max_rows());
  int64_t next = rows.begin;
  for (int64_t b = 0; b < blocks.count(); ++b) {
    EXPECT(blocks[b].begin == next, rows.size(), b);
    EXPECT(blocks[b].size() >= 1 && blocks[b].size() <= blocks.max_rows(), rows.size(), b);
    next = blocks[b].end;
  }
  EXPECT(next == rows.end, rows.size(), next);
}

// Every match comes after as many of its blocks' matches as its turn says: what visit_tiles waits
// for has smaller numbers, so that nobody waits for ever.
void check_turns(const Schedule& schedule) {
  simclr::Turns turns(schedule, /*blocks=*/0);
  std::set<std::pair<int64_t, int64_t>> met;
  for (int64_t k = 0; k < schedule.num_matches(); ++k) {
    const Schedule::Match match = schedule.match(k);
    EXPECT(met.insert({match.row_slot, match.column_slot}).second, k, match.row_slot);
    EXPECT(turns.done(match.row_slot) == match.row_turn, k, match.row_slot, match.row_turn);
    EXPECT(turns.done(match.column_slot) == match.column_turn, k, match.column_slot);
    turns.finish(match);
  }
}

// `right(i, j, count)` tells whether a pair is in as many tiles as it should be.
template <typename Right>
void check_pairs(const Problem& problem, const Right& right) {
  const Schedule schedule(problem);
  std::vector<int> seen(problem.count() * problem.count(), 0);
  for (int64_t k = 0; k < schedule.num_matches(); ++k) {
    for (const Tile& tile : schedule.tiles(schedule.match(k))) {
      EXPECT(tile.diagonal == (problem.symmetric() && tile.rows == tile.columns), k);
      for (int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
        for (int64_t j = tile.columns.begin; j < tile.columns.end; ++j) {
          ++seen[i * problem.count() + j];
        }
      }
    }
  }
  for (int64_t i = 0; i < problem.count(); ++i) {
    for (int64_t j = 0; j < problem.count(); ++j) {
      const int count = seen[i * problem.count() + j];
      EXPECT(right(i, j, count), i, j, count);
    }
  }
}

void test_triangle(int64_t rows) {
  const Problem problem{{0, rows}, {0, rows}};
  const Schedule schedule(problem);
  const Blocks& blocks = schedule.rows();
  check_blocks(blocks, problem.rows);
  EXPECT(blocks.count() == 1 || blocks.count() % 2 == 0, rows, blocks.count());
  for (int64_t b = 0; rows % 2 == 0 && b < blocks.count(); ++b) {
    const bool straddles = blocks[b].begin < rows / 2 && blocks[b].end > rows / 2;
    EXPECT(blocks.count() == 1 || !straddles, rows, b);
  }
}

void test_grid(Problem problem) {
  const Schedule schedule(problem);
  check_blocks(schedule.rows(), problem.rows);
  check_blocks(schedule.columns(), problem.columns);
  check_turns(schedule);
}

int main() {
  for (int64_t rows = 1; rows < 3000; ++rows) test_triangle(rows);
  for (int64_t rows : {4094, 4096, 8192, 8194, 65536, 1 << 20}) test_triangle(rows);
  for (int64_t rows : {1, 2, 128, 130, 600, 5000, 20000, 20001}) {
    check_turns(Schedule({{0, rows}, {0, rows}}));
    for (int64_t columns : {1, 3, 128, 129, 700, 5000, 20000}) {
      test_grid({{0, rows}, {rows, rows + columns}});
    }
  }
  for (int64_t rows : {1, 5, 130, 700}) {
    // Of a symmetric matrix the upper half, and in diagonal tiles the lower one, too.
    check_pairs({{0, rows}, {0, rows}},
                [](int64_t i, int64_t j, int count) { return i <= j ? count == 1 : count <= 1; });
    for (int64_t columns : {1, 4, 200}) {
      check_pairs({{0, rows}, {rows, rows + columns}}, [&](int64_t i, int64_t j, int count) {
        return count == (i < rows && j >= rows);
      });
    }
  }
  // A rank's rows of all.
  check_pairs({{150, 320}, {0, 600}},
              [](int64_t i, int64_t, int count) { return count == (150 <= i && i < 320); });
  return failures;
}
