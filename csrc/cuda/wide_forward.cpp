// The forward passes over wide rows: allocations, products and kernel launches.
//
// Memory beyond inputs and results: a tile of S, and the sums of at most 32 slots per row and 64
// per column, which are both if the rows are the columns: 96 floats per row of z. Twice that
// without a shared shift, and as much again with labels; and one float per row and shift.
//
// If the host does not know the temperature, each row has its own shift: it costs memory and few
// operations, while a second kernel for each tile would cost a launch.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include <optional>

#include "common/plain_dispatch.h"
#include "cuda/wide.h"

namespace simclr::fused {
namespace {

// Blocks add to what earlier tiles left.
void clear(const Sums& sums) {
  sums.sum.zero_();
  sums.max.fill_(kLeastExponent);
}

void clear(const SumsOfStats& sums) {
  const at::Tensor weighted_and_near = sums.floats.narrow(0, 0, 2);
  weighted_and_near.zero_();
  sums.floats.select(0, 2).fill_(-INFINITY);
  sums.index.fill_(-1);
}

// The totals from a slot on; null where there are none.
WideSums totals(const Sums& sums, int64_t slot) {
  const int64_t place = slot * sums.side.size();
  const auto from = [&](const at::Tensor& numbers) {
    return numbers.numel() == 0 ? nullptr : numbers.mutable_data_ptr<float>() + place;
  };
  return {from(sums.sum), from(sums.max), from(sums.positive)};
}

}  // namespace

void run_wide_pass(const at::Tensor& z, const Rows& rows, const Problem& problem, Pairing pairing,
                   const Exponents& exponents, const Losses& losses, const Stats* stats,
                   Stream stream) {
  const PlainDispatch guard;
  // By-products are sums of rows alone.
  const bool both = problem.has_column_results() && stats == nullptr;
  const bool triangle = both && problem.symmetric();
  const bool own = !exponents.shared_shift;
  const bool labels = pairing.label != nullptr;
  if (triangle && pairing.shifts > 0) pairing.shifts = 1;  // k stands for both k and -k
  const WideTiles tiles(z, problem, triangle);
  const int64_t row_slots = divide_up(tiles.max_columns(), kWideColumns);
  const int64_t column_slots = divide_up(tiles.max_rows(), kWideRows);

  const auto floats = losses.loss.options();
  const Sums of_rows(problem.rows, row_slots + (triangle ? column_slots : 0), own, labels, floats);
  const Sums of_columns = triangle ? of_rows
                                   : Sums(problem.columns, both ? column_slots : 0, own && both,
                                          labels && both, floats);
  clear(of_rows);
  if (!triangle) clear(of_columns);
  const at::Tensor positive = at::empty({pairing.shifts, problem.rows.size()}, floats);
  const ForwardParams pass{.rows = rows,
                           .problem = problem,
                           .pairing = pairing,
                           .exponents = exponents,
                           .positive = positive.mutable_data_ptr<float>()};
  const FinishParams losses_of_rows =
      losses.of_side(pass, of_rows, problem.counted_columns(), both);
  std::optional<SumsOfStats> of_stats;
  if (stats != nullptr) {
    of_stats.emplace(losses_of_rows, *stats);
    clear(*of_stats);
  }
  for (const Tile& place : tiles.places()) {
    const WideForwardParams p{.pass = pass,
                              .tile = tiles.multiply(place),
                              .rows = totals(of_rows, 0),
                              .columns = totals(of_columns, triangle ? row_slots : 0)};
    if (of_stats) {
      wide_stats_forward({p, of_stats->pointers()}, stream);
    } else {
      wide_forward(p, stream);
    }
  }
  if (of_stats) return of_stats->finish(losses_of_rows, *stats, stream);
  finish(losses_of_rows, stream);
  if (both && !triangle) {
    finish(losses.of_side(pass, of_columns, problem.counted_rows(), both), stream);
  }
}

at::Tensor sum_wide_pairs(const at::Tensor& z, const SigmoidForwardParams& pass, Stream stream) {
  const PlainDispatch guard;
  const Problem& problem = pass.pass.problem;
  const WideTiles tiles(z, problem, /*triangle=*/false);
  const int64_t slots = divide_up(tiles.max_columns(), kWideColumns);
  const at::Tensor sums = at::zeros({2, slots, problem.rows.size()}, z.options().dtype(at::kFloat));
  for (const Tile& place : tiles.places()) {
    const WideForwardParams p{.pass = pass.pass,
                              .tile = tiles.multiply(place),
                              .rows = {.sum = sums.mutable_data_ptr<float>()}};
    auto* sigmoid_sum = sums.select(0, 1).mutable_data_ptr<float>();
    wide_sigmoid_forward({p, pass.scalars, sigmoid_sum}, stream);
  }
  return sums;
}

}  // namespace simclr::fused
