// What the forward passes allocate and finish: partial sums, and the losses that they become.

#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/host.h"
#include "entries.h"

namespace simclr::fused {

// Memory for the partial sums of a side.
struct Sums {
  Sums() = default;
  Sums(Range rows, int slots_of_row, bool has_max, bool has_positive,
       const at::TensorOptions& floats)
      : side(rows), slots(slots_of_row) {
    const int64_t size = slots * side.size();
    sum = at::empty({size}, floats);
    if (has_max) max = at::empty({size}, floats);
    if (has_positive) positive = at::zeros({size}, floats);
  }

  // The sums from a slot on.
  SideSums from(int64_t slot) const {
    const auto numbers = [&](const at::Tensor& all) {
      return all.defined() ? all.mutable_data_ptr<float>() + slot * side.size() : nullptr;
    };
    return {numbers(sum), numbers(max), numbers(positive)};
  }
  // counted: the number of pairs of each row.
  FinishSide finish(int64_t counted) const {
    return {
        .range = side, .counted = counted, .slots = slots, .shared_slots = slots, .sums = from(0)};
  }

  Range side = {0, 0};
  int slots = 0;
  at::Tensor sum;
  at::Tensor max;
  at::Tensor positive;
};

// The same for the by-products of a side.
struct SumsOfStats {
  SumsOfStats(const Sums& sums, const at::TensorOptions& options)
      : size(sums.slots * sums.side.size()),
        floats(at::empty({3, size}, options)),
        index(at::empty({size}, options.dtype(at::kInt))) {}

  StatsSums pointers() const {
    auto* first = floats.mutable_data_ptr<float>();
    return {.weighted = first,
            .near = first + size,
            .hardest = first + 2 * size,
            .hardest_index = index.mutable_data_ptr<int32_t>()};
  }

  int64_t size;
  at::Tensor floats;
  at::Tensor index;
};

inline StatsFinishParams finish_of_stats(const FinishParams& pass, const StatsOfSides& sums,
                                         const Stats& stats) {
  return {.pass = pass,
          .sums = sums,
          .positive = stats.positive.mutable_data_ptr<float>(),
          .hardest = stats.hardest.mutable_data_ptr<float>(),
          .hardest_index = stats.hardest_index.mutable_data_ptr<int64_t>(),
          .mean = stats.mean_similarity.mutable_data_ptr<double>(),
          .near = stats.near.mutable_data_ptr<double>()};
}

// The losses of all rows of z.
struct Losses {
  at::Tensor positives;  // [count] by labels, or undefined
  at::Tensor loss;
  at::Tensor lse;

  // How they are computed; visited_once: see FinishParams.
  FinishParams finish(const ForwardParams& p, bool visited_once, const FinishSide& rows,
                      const FinishSide& columns) const {
    return {.problem = p.problem,
            .pairing = p.pairing,
            .exponents = p.exponents,
            .visited_once = visited_once,
            .rows = rows,
            .columns = columns,
            .positive = p.positive,
            .positives = positives.defined() ? positives.const_data_ptr<int32_t>() : nullptr,
            .loss = loss.mutable_data_ptr<float>(),
            .lse = lse.mutable_data_ptr<double>()};
  }
};

}  // namespace simclr::fused
