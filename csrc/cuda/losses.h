// What the forward passes allocate and finish: partial sums, and the losses that they become.

#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/host.h"
#include "entries.h"

namespace simclr::fused {

// The partial sums of a side.
struct Sums {
  Sums(Range side_, int slots_, bool has_max, bool has_positive, const at::TensorOptions& floats)
      : side(side_), slots(slots_) {
    const int64_t size = slots * side.size();
    sum = at::empty({size}, floats);
    max = at::empty({has_max ? size : 0}, floats);
    positive = has_positive ? at::zeros({size}, floats) : at::empty({0}, floats);
  }
  Range side;
  int slots;
  at::Tensor sum;
  at::Tensor max;
  at::Tensor positive;
};

// The partial sums of by-products, like those of `losses`, and how they are finished.
struct SumsOfStats {
  SumsOfStats(const FinishParams& losses, const Stats& stats)
      : size(losses.slots * losses.side.size()),
        floats(at::empty({3, size}, stats.hardest.options())),
        index(at::empty({size}, stats.hardest.options().dtype(at::kInt))) {}

  StatsSums pointers() const {
    auto* first = floats.mutable_data_ptr<float>();
    return {.weighted = first,
            .near = first + size,
            .hardest = first + 2 * size,
            .hardest_index = index.mutable_data_ptr<int32_t>()};
  }
  void finish(const FinishParams& losses, const Stats& stats, Stream stream) const {
    finish_stats({.pass = losses,
                  .sums = pointers(),
                  .positive = stats.positive.mutable_data_ptr<float>(),
                  .hardest = stats.hardest.mutable_data_ptr<float>(),
                  .hardest_index = stats.hardest_index.mutable_data_ptr<int64_t>(),
                  .mean = stats.mean_similarity.mutable_data_ptr<double>(),
                  .near = stats.near.mutable_data_ptr<double>()},
                 stream);
  }

  int64_t size;
  at::Tensor floats;
  at::Tensor index;
};

// The losses of all rows of z, and what they are computed from.
struct Losses {
  at::Tensor positives;  // [count] by labels, or undefined
  at::Tensor loss;
  at::Tensor lse;

  // How the losses of a side are computed; both_sides: whether the pass sums for the other one too.
  FinishParams of_side(const ForwardParams& p, const Sums& sums, int64_t counted,
                       bool both_sides) const {
    return {.problem = p.problem,
            .pairing = p.pairing,
            .both_sides = both_sides,
            .exponents = p.exponents,
            .side = sums.side,
            .counted = counted,
            .slots = sums.slots,
            .sum = sums.sum.const_data_ptr<float>(),
            .max = p.exponents.shared_shift ? nullptr : sums.max.const_data_ptr<float>(),
            .positive_sum = sums.positive.const_data_ptr<float>(),
            .positive = p.positive,
            .positives = positives.defined() ? positives.const_data_ptr<int32_t>() : nullptr,
            .loss = loss.mutable_data_ptr<float>(),
            .lse = lse.mutable_data_ptr<double>()};
  }
};

}  // namespace simclr::fused
