// The forward operators on CUDA tensors: allocations and kernel launches.
//
// Memory beyond inputs and results, for R rows and C columns: the partial sums of at most 65
// strips, 65 R floats if the rows are the columns and share a shift, else 64 (R + C), or
// 2 x 64 (R + C) without a shared shift, and 3 x 64 (R + C) with labels; and one float per row and
// shift.

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "cuda/host.h"
#include "entries.h"

namespace simclr::fused {
namespace {

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

// The losses of all rows of z, and what they are computed from.
struct Losses {
  at::Tensor positives;  // [count] by labels, or undefined
  at::Tensor loss;
  at::Tensor lse;

  // How the losses of a side are computed.
  FinishParams of_side(const ForwardParams& p, const Sums& sums, int64_t counted) const {
    return {.problem = p.problem,
            .pairing = p.pairing,
            .shared_shift = p.shared_shift,
            .shift = p.shift,
            .side = sums.side,
            .counted = counted,
            .slots = sums.slots,
            .sum = sums.sum.const_data_ptr<float>(),
            .max = p.shared_shift ? nullptr : sums.max.const_data_ptr<float>(),
            .positive_sum = sums.positive.const_data_ptr<float>(),
            .positive = p.positive,
            .positives = positives.defined() ? positives.const_data_ptr<int32_t>() : nullptr,
            .loss = loss.mutable_data_ptr<float>(),
            .lse = lse.mutable_data_ptr<double>()};
  }
};

// Runs the forward kernel that sums by-products too, and writes both.
void run_with_stats(const ForwardParams& p, const FinishParams& losses, const Stats& stats,
                    const Kernels& kernels, Stream stream) {
  const int64_t size = losses.slots * losses.side.size();
  const at::Tensor sums = at::empty({3, size}, stats.hardest.options());
  const at::Tensor index = at::empty({size}, stats.hardest.options().dtype(at::kInt));
  auto* first = sums.mutable_data_ptr<float>();
  const StatsSums partial{.weighted = first,
                          .near = first + size,
                          .hardest = first + 2 * size,
                          .hardest_index = index.mutable_data_ptr<int32_t>()};
  kernels.stats_forward({p, partial}, stream);
  finish_stats({.pass = losses,
                .sums = partial,
                .scale = p.scale,
                .positive = stats.positive.mutable_data_ptr<float>(),
                .hardest = stats.hardest.mutable_data_ptr<float>(),
                .hardest_index = stats.hardest_index.mutable_data_ptr<int64_t>(),
                .mean = stats.mean_similarity.mutable_data_ptr<double>(),
                .near = stats.near.mutable_data_ptr<double>()},
               stream);
}

// Runs the forward kernel over a problem, and writes the losses of its rows; with a shared shift
// also those of its columns, if they have any. stats: by-products, too, or null.
void run_pass(const Rows& z, const Problem& problem, Pairing pairing, const Exponents& exponents,
              const Kernels& kernels, const Losses& losses, const Stats* stats, Stream stream) {
  const bool shared = exponents.shared_shift && problem.has_column_results();
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
                        .scale = exponents.scale,
                        .shift = shared ? exponents.shift : 0,
                        .shared_shift = shared,
                        .row_strips = row_strips,
                        .column_strips = column_strips,
                        .row_sum = rows.sum.mutable_data_ptr<float>(),
                        .row_max = rows.max.mutable_data_ptr<float>(),
                        .column_sum = columns.sum.mutable_data_ptr<float>(),
                        .row_positive = rows.positive.mutable_data_ptr<float>(),
                        .positive = positive.mutable_data_ptr<float>()};
  const FinishParams of_rows = losses.of_side(p, rows, problem.counted_columns());
  if (stats != nullptr) return run_with_stats(p, of_rows, *stats, kernels, stream);
  kernels.forward(p, stream);
  finish(of_rows, stream);
  if (shared && !triangle) finish(losses.of_side(p, columns, problem.counted_rows()), stream);
}

ForwardResult run_forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                          const at::Tensor& temperature, bool normalize, double eps,
                          const Stats* stats) {
  check_eps(eps);
  const Problem& problem = operands.problem();
  const int64_t dim = x.size(1);
  check_size(problem.count(), dim);
  const bool own_shifts = operands.label().defined() || stats != nullptr;
  const Exponents exponents(check_temperature(temperature), normalize, own_shifts);
  const Kernels& kernels = kernels_for(x.scalar_type());
  const StreamGuard guard(x);
  const auto [z, factor, inv_norm] = join_rows(x, y, normalize, eps, kernels, guard.stream());

  const auto floats = x.options().dtype(at::kFloat);
  const Losses losses{count_label_positives(operands), at::empty({problem.count()}, floats),
                      at::empty({problem.count()}, floats.dtype(at::kDouble))};
  const auto run = [&](const Problem& part, const Pairing& pairing) {
    run_pass(make_rows(z, dim, factor.const_data_ptr<float>()), part, pairing, exponents, kernels,
             losses, stats, guard.stream());
  };
  run(problem, operands.pairing());
  if (!problem.same() && !exponents.shared_shift) {
    run(problem.transposed(), operands.pairing().transposed());
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
