// Loops over blocks and tiles on ATen's thread pool.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "common/schedule.h"
#include "cpu/blas_threads.h"

namespace simclr {

// The kernels call ATen on plain buffers: no autograd, and no autocast of their products.
struct PlainDispatch {
  at::AutoDispatchBelowADInplaceOrView below_autograd;
  c10::impl::ExcludeDispatchKeyGuard no_autocast{c10::autocast_dispatch_keyset};
};

// The costs of visit_blocks, in simple operations on floats: what is done before another thread has
// woken up, and a few exponentials or logarithms in double, one at a time.
constexpr int64_t kWakeUpCost = 128 * 1024;
constexpr int64_t kScalarCost = 128;

// Calls visit(rows) for blocks of rows, in parallel where that is worth it; `cost` is that of a
// row.
template <typename Visit>
void visit_blocks(const std::vector<Range>& blocks, int64_t cost, const Visit& visit) {
  int64_t most = 1;
  for (const Range rows : blocks) most = std::max(most, rows.size());
  const int64_t grain = std::max<int64_t>(1, kWakeUpCost / (most * cost));
  const auto count = static_cast<int64_t>(blocks.size());
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) visit(blocks[b]);
  });
}

// The number of workers that visit_tiles uses.
inline int64_t num_workers(const Schedule& schedule) {
  // Where BLAS cannot be told to stay on its thread, two at least, if need be an idle one: inside a
  // parallel region of more than one thread it does.
  const int64_t least = SingleThreadedBlas::available() ? 1 : 2;
  return std::max(least, std::min<int64_t>(at::get_num_threads(), schedule.width()));
}

// Calls visit(tile, worker) for every tile, in parallel; a worker visits one tile at a time. The
// tiles that share a block are visited one after the other in the order of the schedule, whatever
// the number of threads: visit may add to what belongs to its rows and its columns, and the sums
// come out the same to the last bit.
template <typename Visit>
void visit_tiles(const Schedule& schedule, const Visit& visit) {
  std::vector<std::atomic<int64_t>> turns_done(schedule.num_slots());
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};

  // Takes the matches in order. Those it waits for were taken earlier, by threads that run: no
  // thread can wait for ever.
  const auto work = [&](int64_t worker) {
    const auto wait = [&](int64_t slot, int64_t turn) {
      while (turns_done[slot].load(std::memory_order_acquire) < turn && !failed) {
        std::this_thread::yield();
      }
    };
    for (int64_t k = next++; k < schedule.num_matches() && !failed; k = next++) {
      const Schedule::Match match = schedule.match(k);
      wait(match.row_slot, match.row_turn);
      wait(match.column_slot, match.column_turn);
      if (failed) return;
      for (const Tile& tile : schedule.tiles(match)) visit(tile, worker);
      turns_done[match.row_slot].store(match.row_turn + 1, std::memory_order_release);
      turns_done[match.column_slot].store(match.column_turn + 1, std::memory_order_release);
    }
  };

  at::parallel_for(0, num_workers(schedule), 1, [&](int64_t begin, int64_t end) {
    const PlainDispatch guard;
    const SingleThreadedBlas single_threaded;
    for (int64_t worker = begin; worker < end; ++worker) {
      try {
        work(worker);
      } catch (...) {
        failed = true;
        throw;
      }
    }
  });
}

}  // namespace simclr
