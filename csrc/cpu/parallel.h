// Loops over blocks and tiles on ATen's thread pool.

#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "common/plain_dispatch.h"
#include "common/schedule.h"
#include "common/turns.h"
#include "cpu/blas_threads.h"
#include "cpu/fork.h"
#include "cpu/tile_registers.h"

namespace simclr {

// at::parallel_for over numbers below `count`.
template <typename Visit>
void in_parallel(int64_t count, int64_t grain, const Visit& visit) {
  if (count > grain && at::get_num_threads() > 1) note_threads();
  at::parallel_for(0, count, grain, visit);
}

// Costs for visit_blocks, in simple operations on floats: the time to wake another thread, and a
// few exponentials or logarithms in double, not vectorized.
constexpr int64_t kWakeUpCost = 128 * 1024;
constexpr int64_t kScalarCost = 128;

// Calls visit(rows) for blocks of rows, in parallel where that is worth it; `cost` is the cost per
// row.
template <typename Visit>
void visit_blocks(const std::vector<Range>& blocks, int64_t cost, const Visit& visit) {
  int64_t most = 1;
  for (const Range rows : blocks) most = std::max(most, rows.size());
  const int64_t grain = std::max<int64_t>(1, kWakeUpCost / (most * cost));
  const auto count = static_cast<int64_t>(blocks.size());
  in_parallel(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) visit(blocks[b]);
  });
}

// The number of workers for visit_tiles. Ask once: torch's number of threads may change meanwhile,
// and each worker has memory of its own.
inline int64_t num_workers(const Schedule& schedule) {
  // If BLAS cannot be restricted to its thread, at least two workers, one of which may be idle:
  // inside a parallel region of more than one thread BLAS is single-threaded.
  const int64_t least = SingleThreadedBlas::available() ? 1 : 2;
  return std::max(least, std::min<int64_t>(at::get_num_threads(), schedule.width()));
}

// Calls visit(tile, worker) for every tile, in parallel; a worker visits one tile at a time, in
// turns that make the sums over tiles the same bit for bit: see Turns.
template <typename Visit>
void visit_tiles(const Schedule& schedule, int64_t workers, const Visit& visit) {
  Turns turns(schedule);
  in_parallel(workers, 1, [&](int64_t begin, int64_t end) {
    const PlainDispatch guard;
    const SingleThreadedBlas single_threaded;
    const TileRegisters registers;
    for (int64_t worker = begin; worker < end; ++worker) {
      turns.work(schedule, [&](const Tile& tile) { visit(tile, worker); });
    }
  });
}

}  // namespace simclr
