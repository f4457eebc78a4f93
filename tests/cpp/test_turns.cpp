// Workers on threads of their own visit every tile once, add to a block in the order of the
// schedule, do what comes before and after the tiles once for each block, and stop when one of them
// fails. `make sanitize` compiles this with ThreadSanitizer:
// libgomp's threads, which the operators use, it does not see.

#include <map>
#include <stdexcept>
#include <thread>
#include <vector>

#include "check.h"
#include "common/turns.h"

using simclr::Problem;
using simclr::Range;
using simclr::Schedule;
using simclr::Tile;
using simclr::Turns;

// What is added to each block, in order. Vectors grow: two workers at the same time would corrupt
// them, and ThreadSanitizer sees each access.
class Additions {
 public:
  explicit Additions(const Problem& problem) : symmetric_(problem.symmetric()) {
    const Schedule schedule(problem);
    for (int64_t b = 0; b < schedule.rows().count(); ++b) {
      const auto [upper, lower] = Schedule::halves(schedule.rows()[b]);
      for (const Range part : {upper, lower}) rows_[part.begin] = {};
    }
    for (int64_t b = 0; b < schedule.columns().count(); ++b) {
      columns_[schedule.columns()[b].begin] = {};
    }
  }

  void add(const Tile& tile) {
    rows_.at(tile.rows.begin).push_back(tile.columns);
    if (tile.diagonal) return;
    (symmetric_ ? rows_ : columns_).at(tile.columns.begin).push_back(tile.rows);
  }

  friend bool operator==(const Additions& a, const Additions& b) {
    return a.rows_ == b.rows_ && a.columns_ == b.columns_;
  }

 private:
  bool symmetric_;
  std::map<int64_t, std::vector<Range>> rows_;  // by the first row
  std::map<int64_t, std::vector<Range>> columns_;
};

// Runs work() on so many threads.
template <typename Work>
void on_threads(int count, const Work& work) {
  std::vector<std::thread> threads;
  for (int worker = 0; worker < count; ++worker) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
}

void test_order(const Problem& problem, int threads) {
  const Schedule schedule(problem);
  Additions expected(problem);
  for (int64_t k = 0; k < schedule.num_matches(); ++k) {
    for (const Tile& tile : schedule.tiles(schedule.match(k))) expected.add(tile);
  }
  Additions found(problem);
  constexpr int kBlocks = 5;
  std::vector<int> before(kBlocks,
                          0);  // of any block: ThreadSanitizer sees who reads them too soon
  std::vector<int> after(kBlocks, 0);
  std::atomic<int> wrong{0};
  Turns turns(schedule, kBlocks);
  on_threads(threads, [&] {
    turns.work(
        schedule,
        [&](int64_t b) {
          std::this_thread::yield();
          ++before[b];
        },
        [&](const Tile& tile) {
          for (const int times : before) wrong += times != 1;
          found.add(tile);
          std::this_thread::yield();  // the others find this block taken
        },
        [&](int64_t b) { after[b] += found == expected; });
  });
  EXPECT(found == expected, problem.rows.size(), problem.columns.size(), threads);
  EXPECT(wrong == 0, wrong.load(), threads);
  for (const int times : after) EXPECT(times == 1, times, threads);
}

void test_failure(const Problem& problem, int threads) {
  const Schedule schedule(problem);
  Turns turns(schedule, 1);
  std::atomic<int> visits{0};
  std::atomic<int> afterwards{0};
  std::atomic<int> thrown{0};
  on_threads(threads, [&] {
    try {
      const auto visit_tile = [&](const Tile&) {
        const int visit = ++visits;
        if (visit == 5) throw std::runtime_error("a tile");
        // So that the others notice, however late the one that fails gets a processor again.
        while (visit > 5 && thrown == 0) std::this_thread::yield();
      };
      turns.work(schedule, [](int64_t) {}, visit_tile, [&](int64_t) { ++afterwards; });
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  });
  EXPECT(thrown == 1, thrown.load(), threads);
  // Those that had begun a match, of up to three tiles.
  EXPECT(visits <= 5 + 3 * (threads - 1), visits.load(), threads);
  EXPECT(afterwards == 0, afterwards.load(), threads);
}

void test_failure_before(const Problem& problem, int threads) {
  const Schedule schedule(problem);
  Turns turns(schedule, threads + 1);
  std::atomic<int> visits{0};
  std::atomic<int> thrown{0};
  on_threads(threads, [&] {
    try {
      const auto fail = [](int64_t b) {
        if (b == 1) throw std::runtime_error("a block");
      };
      turns.work(schedule, fail, [&](const Tile&) { ++visits; }, [&](int64_t) { ++visits; });
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  });
  EXPECT(thrown == 1, thrown.load(), threads);
  EXPECT(visits == 0, visits.load(), threads);
}

int main() {
  const Problem problems[] = {
      {{0, 100}, {0, 100}},       // one tile
      {{0, 130}, {0, 130}},       // four blocks
      {{0, 5000}, {0, 5000}},     // ten, with diagonal tiles that are cut
      {{0, 700}, {700, 5000}},    // a grid with more columns
      {{0, 4300}, {4300, 4301}},  // one block of columns
      {{150, 1500}, {0, 5000}},   // a rank's rows of all
  };
  for (int threads = 1; threads <= 16; ++threads) {
    for (const Problem& problem : problems) test_order(problem, threads);
    test_failure(problems[2], threads);
    test_failure(problems[3], threads);
    test_failure_before(problems[2], threads);
  }
  return failures;
}
