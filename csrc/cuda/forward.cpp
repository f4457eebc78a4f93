// The forward operators on CUDA tensors: allocations and kernel launches.
//
// Memory beyond inputs and results, for R rows and C columns: the partial sums of at most 65
// strips, 65 R floats if the rows are the columns and share a shift, else 64 (R + C), or
// 2 x 64 (R + C) without a shared shift, and 3 x 64 (R + C) with labels; and one float per row and
// shift. If the host does not know the temperature, the larger of what it may need.

#include <ATen/ops/empty.h>

#include "cuda/losses.h"
#include "cuda/wide.h"
#include "entries.h"

namespace simclr::fused {
namespace {

// Runs the forward kernel over a problem, and writes the losses of its rows; with a shared shift
// also those of its columns, if they have any. stats: by-products, too, or null.
void run_pass(const Rows& z, const Problem& problem, Pairing pairing, const Exponents& exponents,
              const Kernels& kernels, const Losses& losses, const Stats* stats, Stream stream) {
  const bool shared = exponents.shared_shift;
  const bool triangle = shared && problem.symmetric();
  const bool labels = pairing.label != nullptr;
  if (triangle && pairing.shifts > 0) pairing.shifts = 1;  // k stands for both k and -k
  const TileShape tile = kernels.tile(z.dim);
  const Strips row_strips = forward_strips(problem.rows, tile, kGrid);
  const Strips column_strips = forward_strips(problem.columns, tile, kGrid);

  const auto floats = losses.loss.options();
  const Sums rows(problem.rows, column_strips.count + triangle, !shared, labels, floats);
  const Sums columns =
      triangle ? rows : Sums(problem.columns, shared ? row_strips.count : 0, false, false, floats);
  const at::Tensor positive = at::empty({pairing.shifts, problem.rows.size()}, floats);
  const ForwardParams p{.rows = z,
                        .problem = problem,
                        .pairing = pairing,
                        .exponents = exponents,
                        .row_strips = row_strips,
                        .column_strips = column_strips,
                        .row_sum = rows.sum.mutable_data_ptr<float>(),
                        .row_max = rows.max.mutable_data_ptr<float>(),
                        .column_sum = columns.sum.mutable_data_ptr<float>(),
                        .row_positive = rows.positive.mutable_data_ptr<float>(),
                        .positive = positive.mutable_data_ptr<float>()};
  const FinishParams of_rows = losses.of_side(p, rows, problem.counted_columns(), shared);
  if (stats != nullptr) {
    const SumsOfStats sums(of_rows, *stats);
    kernels.stats_forward({p, sums.pointers()}, stream);
    return sums.finish(of_rows, *stats, stream);
  }
  kernels.forward(p, stream);
  finish(of_rows, stream);
  if (!shared || triangle) return;
  finish(losses.of_side(p, columns, problem.counted_rows(), shared), stream);
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
  for_each_shift(exponents.value, [&](const Exponents& of_shift) {
    const auto run = [&](const Problem& part, const Pairing& pairing) {
      if (is_wide(dim)) {
        run_wide_pass(z, rows, part, pairing, of_shift, losses, stats, guard.stream());
      } else {
        run_pass(rows, part, pairing, of_shift, kernels, losses, stats, guard.stream());
      }
    };
    run(problem, operands.pairing());
    const bool both_sides = is_wide(dim) ? stats == nullptr : of_shift.shared_shift;
    if (!problem.same() && !both_sides) {
      run(problem.transposed(), operands.pairing().transposed());
    }
  });
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
