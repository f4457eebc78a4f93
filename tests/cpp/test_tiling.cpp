// The blocks cover the rows, and the tournament visits every pair of blocks once.

#include <set>
#include <utility>

#include "check.h"
#include "common/tiling.h"

using simclr::Blocks;
using simclr::Tournament;

void test_blocks(int64_t num_rows) {
  const Blocks blocks(num_rows);
  EXPECT(blocks.count() == 1 || blocks.count() % 2 == 0, num_rows, blocks.count());
  EXPECT(blocks.max_rows() <= Blocks::kMaxRows, num_rows, blocks.max_rows());
  int64_t next = 0;
  for (int64_t b = 0; b < blocks.count(); ++b) {
    EXPECT(blocks[b].begin == next, num_rows, b);
    EXPECT(blocks[b].size() >= 1 && blocks[b].size() <= blocks.max_rows(), num_rows, b);
    const bool straddles = blocks[b].begin < num_rows / 2 && blocks[b].end > num_rows / 2;
    EXPECT(blocks.count() == 1 || !straddles, num_rows, b);
    EXPECT(blocks.block_of(blocks[b].begin) == b, num_rows, b, blocks.block_of(blocks[b].begin));
    EXPECT(blocks.block_of(blocks[b].end - 1) == b, num_rows, b);
    next = blocks[b].end;
  }
  EXPECT(next == num_rows, num_rows, next);
}

void test_tournament(int64_t num_blocks) {
  const Tournament tournament(num_blocks);
  std::set<std::pair<int64_t, int64_t>> met;
  std::set<int64_t> busy;
  int64_t round = 0;
  for (int64_t k = 0; k < tournament.num_matches(); ++k) {
    const auto match = tournament.match(k);
    const auto [a, b] = match.pair;
    EXPECT(0 <= a && a <= b && b < num_blocks, num_blocks, k, a, b);
    EXPECT(met.insert({a, b}).second, num_blocks, a, b);
    if (match.round != round) {
      EXPECT(match.round == round + 1, num_blocks, k, round);
      EXPECT(static_cast<int64_t>(busy.size()) == num_blocks, num_blocks, round, busy.size());
      busy.clear();
      round = match.round;
    }
    EXPECT(busy.insert(a).second, num_blocks, round, a);
    EXPECT(a == b || busy.insert(b).second, num_blocks, round, b);
  }
  EXPECT(static_cast<int64_t>(met.size()) == num_blocks * (num_blocks + 1) / 2, num_blocks);
}

int main() {
  for (int64_t num_rows = 2; num_rows < 3000; num_rows += 2) test_blocks(num_rows);
  for (int64_t num_rows : {4094, 4096, 8192, 8194, 65536, 1 << 20}) test_blocks(num_rows);
  test_tournament(1);
  for (int64_t num_blocks = 2; num_blocks <= 40; num_blocks += 2) test_tournament(num_blocks);
  return failures;
}
