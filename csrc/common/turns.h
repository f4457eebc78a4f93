// Who may add to which rows: the order of the matches of a block, among workers that run at the
// same time.

#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "common/schedule.h"

namespace simclr {

class Turns {
 public:
  explicit Turns(const Schedule& schedule) : done_(schedule.num_slots()) {}

  // Calls visit(tile) for the tiles of the schedule that no other worker takes, until there are
  // none; for each worker once, at the same time or one after the other. What a visit throws ends
  // all workers.
  //
  // Matches are taken in order. Those that one waits for were taken earlier, by workers that are
  // running, so there is no deadlock.
  template <typename Visit>
  void work(const Schedule& schedule, const Visit& visit) {
    try {
      for (int64_t k = next_++; k < schedule.num_matches() && !failed_; k = next_++) {
        const Schedule::Match match = schedule.match(k);
        if (!wait_for(match)) return;
        for (const Tile& tile : schedule.tiles(match)) visit(tile);
        finish(match);
      }
    } catch (...) {
      fail();
      throw;
    }
  }

  // Waits until the earlier matches of both blocks are done; false if a worker has failed.
  bool wait_for(const Schedule::Match& match) const {
    return wait(match.row_slot, match.row_turn) && wait(match.column_slot, match.column_turn);
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
  // A worker mostly waits for less than a tile's time. Then it does not yield: on a machine with
  // other work that gives away a whole time slice, many times as long. One that waits for longer
  // waits for a worker that has lost its processor, perhaps to this one.
  static constexpr int kSpins = 20'000;  // about a millisecond

  bool wait(int64_t slot, int64_t turn) const {
    for (int spins = 0; done(slot) < turn; ++spins) {
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

  std::atomic<int64_t> next_{0};            // the match that is taken next
  std::vector<std::atomic<int64_t>> done_;  // the number of matches of each slot
  std::atomic<bool> failed_{false};
};

}  // namespace simclr
