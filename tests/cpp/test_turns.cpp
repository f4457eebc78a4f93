// Workers on threads of their own visit every tile once, add to a block in the order of the
// schedule, do what comes before and after the tiles once for each block, and stop when one of them
// fails. `make sanitize` compiles this with ThreadSanitizer: libgomp's threads, which the operators
// use, it does not see.

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

// Runs work(worker) on so many threads.
template <typename Work>
void on_threads(int count, const Work& work) {
  std::vector<std::thread> threads;
  for (int worker = 0; worker < count; ++worker) threads.emplace_back(work, worker);
  for (std::thread& thread : threads) thread.join();
}

// A third of the workers have no tiles. One after the other: on one thread.
void test_order(const Problem& problem, int workers, bool one_after_the_other) {
  const Schedule schedule(problem);
  Additions expected(problem);
  for (int64_t k = 0; k < schedule.num_matches(); ++k) {
    for (const Tile& tile : schedule.tiles(schedule.match(k))) expected.add(tile);
  }
  Additions found(problem);
  constexpr int kBlocks = 5;
  // Not atomic: ThreadSanitizer sees who reads them too soon.
  std::vector<int> before(kBlocks, 0);
  std::vector<int> after(kBlocks, 0);
  std::atomic<int> wrong{0};
  Turns turns(schedule, kBlocks);
  const auto work = [&](int worker) {
    const auto count_before = [&](int64_t b) {
      std::this_thread::yield();
      ++before[b];
    };
    const auto visit = [&](const Tile& tile) {
      for (const int times : before) wrong += times != 1;
      found.add(tile);
      std::this_thread::yield();  // the others find this block taken
    };
    const auto count_after = [&](int64_t b) { after[b] += found == expected; };
    turns.work(schedule, 3 * worker < 2 * workers, count_before, visit, count_after);
  };
  if (one_after_the_other) {
    for (int worker = 0; worker < workers; ++worker) work(worker);
  } else {
    on_threads(workers, work);
  }
  EXPECT(found == expected, problem.rows.size(), problem.columns.size(), workers);
  EXPECT(wrong == 0, wrong.load(), workers);
  for (const int times : after) EXPECT(times == 1, times, workers);
}

void test_failure(const Problem& problem, int threads) {
  const Schedule schedule(problem);
  Turns turns(schedule, 1);
  std::atomic<int> visits{0};
  std::atomic<int> afterwards{0};
  std::atomic<int> thrown{0};
  on_threads(threads, [&](int) {
    try {
      const auto visit_tile = [&](const Tile&) {
        const int visit = ++visits;
        if (visit == 5) throw std::runtime_error("a tile");
        // So that the others notice, however late the one that fails gets a processor again.
        while (visit > 5 && thrown == 0) std::this_thread::yield();
      };
      turns.work(schedule, true, [](int64_t) {}, visit_tile, [&](int64_t) { ++afterwards; });
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  });
  EXPECT(thrown == 1, thrown.load(), threads);
  // Those that had begun a match, of up to three tiles.
  EXPECT(visits <= 5 + 3 * (threads - 1), visits.load(), threads);
  EXPECT(afterwards == 0, afterwards.load(), threads);
}

void test_failure_of_a_block(const Problem& problem, int threads, bool after) {
  const Schedule schedule(problem);
  Turns turns(schedule, threads + 1);
  std::atomic<int> visits{0};
  std::atomic<int> thrown{0};
  on_threads(threads, [&](int) {
    const auto at = [&](bool fails) {
      return [fails](int64_t b) {
        if (fails && b == 1) throw std::runtime_error("a block");
      };
    };
    try {
      turns.work(schedule, true, at(!after), [&](const Tile&) { ++visits; }, at(after));
    } catch (const std::runtime_error&) {
      ++thrown;
    }
  });
  EXPECT(thrown == 1, thrown.load(), threads);
  EXPECT((visits > 0) == after, visits.load(), threads);
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
    for (const Problem& problem : problems) {
      for (const bool one_after_the_other : {false, true}) {
        test_order(problem, threads, one_after_the_other);
      }
    }
    test_failure(problems[2], threads);
    test_failure(problems[3], threads);
    for (const bool after : {false, true}) test_failure_of_a_block(problems[2], threads, after);
  }
  return failures;
}
