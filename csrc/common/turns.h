// Who does what when, among workers that run at the same time: something for each block of rows,
// then the tiles, then something for each block again. Tiles add to their blocks in the order of
// the schedule.

#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/schedule.h"

namespace simclr {

// Numbered items, each for the worker that takes it.
class Items {
 public:
  explicit Items(int64_t count) : count_(count) {}

  // The next item that nobody has taken; count() or more if there is none.
  int64_t take() { return next_++; }
  void finish() { done_.fetch_add(1, std::memory_order_release); }
  bool all_done() const { return done_.load(std::memory_order_acquire) == count_; }
  int64_t count() const { return count_; }

 private:
  int64_t count_;
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> done_{0};
};

class Turns {
 public:
  Turns(const Schedule& schedule, int64_t blocks)
      : before_(blocks),
        matches_(schedule.num_matches()),
        after_(blocks),
        done_(schedule.num_slots()) {}

  // Calls before(b) for the blocks that no other worker takes; once all have been taken and are
  // done, visit(tile) for the tiles of the schedule; then after(b). Without `tiles` others visit
  // these. To be called for each worker once, those with tiles first, at the same time or one after
  // the other. What is thrown ends all workers.
  //
  // Matches are taken in order. Those that one waits for, and blocks that are not done, were taken
  // earlier, by workers that are running, so there is no deadlock.
  template <typename Before, typename Visit, typename After>
  void work(const Schedule& schedule, bool tiles, const Before& before, const Visit& visit,
            const After& after) {
    const auto visit_match = [&](int64_t k) {
      const Schedule::Match match = schedule.match(k);
      if (!wait_for(match)) return;
      for (const Tile& tile : schedule.tiles(match)) visit(tile);
      finish(match);
    };
    try {
      share(before_, before);
      if (!wait([&] { return before_.all_done(); })) return;
      if (tiles) share(matches_, visit_match);
      if (!wait([&] { return matches_.all_done(); })) return;
      share(after_, after);
    } catch (...) {
      fail();
      throw;
    }
  }

  // Waits until the earlier matches of both blocks are done; false if a worker has failed.
  bool wait_for(const Schedule::Match& match) const {
    return wait([&] {
      return done(match.row_slot) >= match.row_turn && done(match.column_slot) >= match.column_turn;
    });
  }

  void finish(const Schedule::Match& match) {
    finish(match.row_slot);
    // A match on the diagonal is one match of one block: the next may be done before this line.
    if (match.column_slot != match.row_slot) finish(match.column_slot);
  }

  // Ends all waiting.
  void fail() { failed_ = true; }

  int64_t done(int64_t slot) const { return done_[slot].load(std::memory_order_acquire); }

 private:
  // A worker with tiles mostly waits for less than a tile's time. Then it does not yield: on a
  // machine with other work that gives away a whole time slice, many times as long. One that waits
  // for longer waits for a worker that has lost its processor, perhaps to this one.
  static constexpr int kSpins = 20'000;  // about a millisecond

  // Visits the items that no other worker takes.
  template <typename Visit>
  void share(Items& items, const Visit& visit) {
    for (int64_t k = items.take(); k < items.count() && !failed_; k = items.take()) {
      visit(k);
      items.finish();
    }
  }

  template <typename Condition>
  bool wait(const Condition& holds) const {
    for (int spins = 0; !holds(); ++spins) {
      if (failed_) return false;
      if (spins < kSpins) {
        relax();
      } else {
        std::this_thread::yield();
      }
    }
    return !failed_;
  }

  void finish(int64_t slot) { done_[slot].fetch_add(1, std::memory_order_release); }

  // Tells the processor that this is a loop that waits.
  static void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  Items before_;
  Items matches_;
  Items after_;
  std::vector<std::atomic<int64_t>> done_;  // the number of matches of each slot
  std::atomic<bool> failed_{false};
};

}  // namespace simclr
