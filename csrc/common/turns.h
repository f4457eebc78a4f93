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
  bool failed() const { return failed_; }

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

  std::vector<std::atomic<int64_t>> done_;  // the number of matches of each slot
  std::atomic<bool> failed_{false};
};

}  // namespace simclr
