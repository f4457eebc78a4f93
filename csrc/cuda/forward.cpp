// The forward operators on CUDA tensors: allocations and kernel launches.
//
// Memory beyond inputs and results: the partial sums of at most 65 strips, 64 floats for each row
// that has a loss, 65 if the rows are the columns and share a shift; twice that without a shared
// shift, three times with labels, and 4 x 64 more with by-products; and one float per row of z and
// shift. If the host does not know the temperature, what either kind of shift needs.

#include <ATen/ops/empty.h>

#include "cuda/losses.h"
#include "cuda/wide.h"
#include "entries.h"

namespace simclr::fused {
namespace {

// Runs the forward kernels over a problem, and writes the losses of its rows and, if they have any,
// of its columns. stats: by-products, too, or null.
void run_pass(const Rows& z, const Problem& problem, const Pairing& pairing,
              const Exponents& exponents, const Kernels& kernels, const Losses& losses,
              const Stats* stats, Stream stream) {
  const bool may_share = exponents.shared_shift || exponents.undecided;
  const bool may_own = !exponents.shared_shift;
  const bool triangle = may_share && problem.symmetric();
  const bool labels = pairing.label != nullptr;
  const TileShape tile = kernels.forward_tile(z.dim);
  const Strips row_strips = forward_strips(problem.rows, tile, kGrid);
  const Strips column_strips = forward_strips(problem.columns, tile, kGrid);

  const auto floats = losses.loss.options();
  const Sums rows(problem.rows, column_strips.count + triangle, may_own, labels, floats);
  const Sums columns =
      problem.same() ? Sums() : Sums(problem.columns, row_strips.count, may_own, labels, floats);
  const at::Tensor positive = at::empty({pairing.shifts, problem.count()}, floats);
  ForwardParams p{.rows = z,
                  .problem = problem,
                  .pairing = pairing,
                  .exponents = exponents,
                  .row_strips = row_strips,
                  .column_strips = column_strips,
                  .row_sums = rows.from(0),
                  .column_sums = columns.from(0),
                  .positive = positive.mutable_data_ptr<float>()};
  FinishSide of_rows = rows.finish(problem.counted_columns());
  of_rows.slots = column_strips.count;  // pairs within a strip have a slot in a triangle alone
  const FinishParams of_pass =
      losses.finish(p, /*visited_once=*/false, of_rows, columns.finish(problem.counted_rows()));
  if (stats != nullptr) {
    const SumsOfStats row_stats(rows, floats);
    const SumsOfStats column_stats(columns, floats);
    const StatsOfSides sums{row_stats.pointers(), column_stats.pointers()};
    kernels.stats_forward({p, sums}, stream);
    return finish_stats(finish_of_stats(of_pass, sums, *stats), stream);
  }
  for_each_shift(exponents, [&](const Exponents& of_shift) {
    p.exponents = of_shift;
    kernels.forward(p, stream);
  });
  finish(of_pass, stream);
}

ForwardResult run_forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                          const at::Tensor& temperature, bool normalize, double eps,
                          const Stats* stats) {
  check_eps(eps);
  const Problem& problem = operands.problem();
  const int64_t dim = x.size(1);
  check_size(problem.count(), x, dim);
  const bool own_shifts = stats != nullptr || !(is_wide(dim) || problem.has_column_results());
  const ExponentsOfPass exponents(temperature, x,
                                  !own_shifts && may_share_shift(operands, normalize, dim));
  const Kernels& kernels = kernels_for(x.scalar_type());
  const StreamGuard guard(x);
  const auto [z, factor, inv_norm] =
      join_rows(x, y, normalize, eps, exponents.value, kernels, guard.stream());

  const auto floats = x.options().dtype(at::kFloat);
  const Losses losses{count_label_positives(operands), at::empty({problem.count()}, floats),
                      at::empty({problem.count()}, floats.dtype(at::kDouble))};
  const Rows rows = make_rows(z, dim, factor.const_data_ptr<float>());
  if (is_wide(dim)) {
    run_wide_pass(z, rows, problem, operands.pairing(), exponents.value, losses, stats,
                  guard.stream());
  } else {
    run_pass(rows, problem, operands.pairing(), exponents.value, kernels, losses, stats,
             guard.stream());
  }
  return {operands.results(losses.loss), operands.results(losses.lse), z, inv_norm};
}

ForwardResult forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                      const at::Tensor& temperature, bool normalize, double eps) {
  return run_forward(x, y, operands, temperature, normalize, eps, nullptr);
}

ForwardResult forward_stats(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                            const at::Tensor& temperature, bool normalize, double eps,
                            const Stats& stats) {
  return run_forward(x, y, operands, temperature, normalize, eps, &stats);
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, SIMCLR_DISPATCH_KEY, m) {
  register_forward<forward>(m);
  register_stats<forward_stats>(m);
}

}  // namespace simclr::fused
