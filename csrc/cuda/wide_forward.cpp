// The forward passes over wide rows: allocations, products and kernel launches.
//
// Memory beyond inputs and results: a tile of S, and the sums of at most 32 slots per row and 64
// per column, which are both if the rows are the columns: 96 floats per row of z. Twice that
// without a shared shift, and as much again with labels; and one float per row of z and shift. With
// by-products, 4 x 32 floats more per row, of one side at a time; of the sigmoid loss, 2 x 32 per
// row.
//
// If the host does not know the temperature, each row has its own shift: it costs memory and few
// operations, while a second kernel for each tile would cost a launch.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "common/plain_dispatch.h"
#include "cuda/wide.h"

namespace simclr::fused {
namespace {

// Blocks add to what earlier tiles left.
void clear(const Sums& sums) {
  sums.sum.zero_();
  if (sums.max.defined()) sums.max.fill_(kLeastExponent);
}

void clear(const SumsOfStats& sums) {
  const at::Tensor weighted_and_near = sums.floats.narrow(0, 0, 2);
  weighted_and_near.zero_();
  sums.floats.select(0, 2).fill_(-INFINITY);
  sums.index.fill_(-1);
}

// What both kinds of passes need.
struct WidePass {
  WidePass(const Rows& rows, const Problem& problem, const Pairing& pairing,
           const Exponents& exponents, const at::TensorOptions& floats)
      : positive(at::empty({pairing.shifts, problem.count()}, floats)),
        params{.rows = rows,
               .problem = problem,
               .pairing = pairing,
               .exponents = exponents,
               .positive = positive.mutable_data_ptr<float>()} {}
  at::Tensor positive;
  ForwardParams params;
};

// With by-products, which are sums of rows alone.
void run_pass_with_stats(const at::Tensor& z, const WidePass& pass, const Losses& losses,
                         const Stats& stats, Stream stream) {
  const Problem& problem = pass.params.problem;
  const auto floats = losses.loss.options();
  const WideTiles tiles(z, problem, /*triangle=*/false);
  const bool labels = pass.params.pairing.label != nullptr;
  const Sums rows(problem.rows, divide_up(tiles.max_columns(), kWideColumns), true, labels, floats);
  const SumsOfStats of_stats(rows, floats);
  clear(rows);
  clear(of_stats);
  for (const Tile& place : tiles.places()) {
    const WideForwardParams p{
        .pass = pass.params, .tile = tiles.multiply(place), .rows = rows.from(0)};
    wide_stats_forward({p, of_stats.pointers()}, stream);
  }
  const FinishParams of_rows = losses.finish(pass.params, /*visited_once=*/false,
                                             rows.finish(problem.counted_columns()), FinishSide{});
  finish_stats(finish_of_stats(of_rows, {.rows = of_stats.pointers()}, stats), stream);
}

void run_pass(const at::Tensor& z, const WidePass& pass, const Losses& losses, Stream stream) {
  const Problem& problem = pass.params.problem;
  const auto floats = losses.loss.options();
  const bool triangle = problem.symmetric();
  const bool both = problem.has_column_results() && !triangle;
  const bool own = !pass.params.exponents.shared_shift;
  const bool labels = pass.params.pairing.label != nullptr;
  const WideTiles tiles(z, problem, triangle);
  const int64_t row_slots = divide_up(tiles.max_columns(), kWideColumns);
  const int64_t column_slots = divide_up(tiles.max_rows(), kWideRows);
  const Sums rows(problem.rows, row_slots + (triangle ? column_slots : 0), own, labels, floats);
  const Sums columns = both ? Sums(problem.columns, column_slots, own, labels, floats) : Sums();
  clear(rows);
  if (both) clear(columns);
  for (const Tile& place : tiles.places()) {
    wide_forward({.pass = pass.params,
                  .tile = tiles.multiply(place),
                  .rows = rows.from(0),
                  .columns = triangle ? rows.from(row_slots) : columns.from(0)},
                 stream);
  }
  finish(losses.finish(pass.params, /*visited_once=*/true, rows.finish(problem.counted_columns()),
                       columns.finish(problem.counted_rows())),
         stream);
}

}  // namespace

void run_wide_pass(const at::Tensor& z, const Rows& rows, const Problem& problem,
                   const Pairing& pairing, const Exponents& exponents, const Losses& losses,
                   const Stats* stats, Stream stream) {
  const PlainDispatch guard;
  const auto floats = losses.loss.options();
  const WidePass pass(rows, problem, pairing, exponents, floats);
  if (stats == nullptr) return run_pass(z, pass, losses, stream);
  run_pass_with_stats(z, pass, losses, *stats, stream);
  if (problem.same()) return;
  const WidePass transposed(rows, problem.transposed(), pairing.transposed(), exponents, floats);
  run_pass_with_stats(z, transposed, losses, *stats, stream);
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
