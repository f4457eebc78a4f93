// The loop over blocks and tiles on ATen's thread pool.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/plain_dispatch.h"
#include "common/schedule.h"
#include "common/turns.h"
#include "cpu/blas_threads.h"
#include "cpu/fork.h"
#include "cpu/tile_registers.h"

namespace simclr {

// The number of workers that visit tiles. Ask once: torch's number of threads may change meanwhile,
// and each of these workers has memory of its own.
inline int64_t num_workers(const Schedule& schedule) {
  // If BLAS cannot be restricted to its thread, at least two workers, one of which may only wait:
  // inside a parallel region of more than one thread BLAS is single-threaded.
  const int64_t least = SingleThreadedBlas::available() ? 1 : 2;
  return std::max(least, std::min<int64_t>(at::get_num_threads(), schedule.width()));
}

// In parallel, in one region: calls before(rows) for every block, visit(tile, worker) for every
// tile after all of these, and after(rows) after all tiles. A worker visits one tile at a time, in
// turns that make the sums over tiles the same bit for bit: see Turns. Where one side has few
// blocks, further threads share what is done for the blocks of the other.
template <typename Before, typename Visit, typename After>
void visit_tiles(const Schedule& schedule, const std::vector<Range>& blocks, int64_t workers,
                 const Before& before, const Visit& visit, const After& after) {
  const auto count = static_cast<int64_t>(blocks.size());
  const int64_t all = std::max(workers, std::min<int64_t>(at::get_num_threads(), count));
  Turns turns(schedule, count);
  if (all > 1 && at::get_num_threads() > 1) note_threads();
  at::parallel_for(0, all, 1, [&](int64_t begin, int64_t end) {
    const PlainDispatch guard;
    const SingleThreadedBlas single_threaded;
    const TileRegisters registers;
    for (int64_t worker = begin; worker < end; ++worker) {
      turns.work(
          schedule, worker < workers, [&](int64_t b) { before(blocks[b]); },
          [&](const Tile& tile) { visit(tile, worker); }, [&](int64_t b) { after(blocks[b]); });
    }
  });
}

}  // namespace simclr
