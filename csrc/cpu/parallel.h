// Loops over blocks and tiles on ATen's thread pool.

#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/impl/LocalDispatchKeySet.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <vector>

#include "common/tiling.h"
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

// Calls visit(block) for every block, in parallel where that is worth it; `cost` is that of a row.
template <typename Visit>
void visit_blocks(const Blocks& blocks, int64_t cost, const Visit& visit) {
  const int64_t grain = std::max<int64_t>(1, kWakeUpCost / (blocks.max_rows() * cost));
  at::parallel_for(0, blocks.count(), grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) visit(b);
  });
}

// The number of threads that visit_tiles uses; their at::get_thread_num() is below it.
inline int64_t num_workers(const Blocks& blocks) {
  // Where BLAS cannot be told to stay on its thread, two at least, if need be an idle one: inside a
  // parallel region of more than one thread it does.
  const int64_t least = SingleThreadedBlas::available() ? 1 : 2;
  return std::max(least, std::min<int64_t>(at::get_num_threads(), blocks.count()));
}

// Calls visit(tile) for every tile of the upper triangle, in parallel. The tiles that share a block
// are visited one after the other in the order of the tournament, whatever the number of threads:
// visit may add to what belongs to its rows and its columns, and the sums come out the same to the
// last bit.
template <typename Visit>
void visit_tiles(const Blocks& blocks, const Visit& visit) {
  const Tournament tournament(blocks.count());
  std::vector<std::atomic<int64_t>> rounds_done(blocks.count());
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};

  // Takes the pairs in the order of the rounds. Those it waits for were taken earlier, by threads
  // that run: no thread can wait for ever.
  const auto work = [&] {
    for (int64_t k = next++; k < tournament.num_matches() && !failed; k = next++) {
      const auto [round, pair] = tournament.match(k);
      for (const int64_t block : {pair.a, pair.b}) {
        while (rounds_done[block].load(std::memory_order_acquire) < round && !failed) {
          std::this_thread::yield();
        }
      }
      if (failed) return;
      for (const Tile& tile : blocks.tiles(pair)) visit(tile);
      rounds_done[pair.a].store(round + 1, std::memory_order_release);
      rounds_done[pair.b].store(round + 1, std::memory_order_release);
    }
  };

  at::parallel_for(0, num_workers(blocks), 1, [&](int64_t begin, int64_t end) {
    const PlainDispatch guard;
    const SingleThreadedBlas single_threaded;
    for (int64_t worker = begin; worker < end; ++worker) {
      try {
        work();
      } catch (...) {
        failed = true;
        throw;
      }
    }
  });
}

}  // namespace simclr
