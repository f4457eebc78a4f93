// Kernels over rows that do not depend on the precision: a row's loss from its partial sums, and
// its terms of the gradient's weights.

#include "cuda/block.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/pairing.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {
namespace {

// A row whose loss is computed, with its partial sums.
struct FinishRow {
  int i;        // of z
  bool column;  // whether it is one of the problem's columns
  FinishSide side;
  int64_t place;  // in its side
  int slots;
  SIMCLR_DEVICE int64_t place_of(int slot) const { return slot * side.range.size() + place; }
};
// Calls visit(row) with the row of this thread, if it has one.
template <typename Visit>
SIMCLR_DEVICE void finish_row(const FinishParams& p, bool shared, const Visit& visit) {
  int64_t place = block_id() * int64_t{kRowThreads} + thread_id();
  const bool column = place >= p.rows.range.size();
  const FinishSide side = column ? p.columns : p.rows;
  if (column) place -= p.rows.range.size();
  if (place >= side.range.size()) return;
  const int i = static_cast<int>(side.range.begin + place);
  visit(FinishRow{i, column, side, place, shared ? side.shared_slots : side.slots});
}

// The sum of x_ij over the positives of row i of z, and the number of positives.
struct Positives {
  double sum;
  int count;
};
SIMCLR_DEVICE Positives positives_of_label(const FinishParams& p, const FinishRow& row) {
  double sum = 0;
  for (int slot = 0; slot < row.slots; ++slot) {
    sum += row.side.sums.positive[row.place_of(slot)];
  }
  return {sum, p.positives[row.i]};
}
// Where (i, j) and (j, i) are both computed, possibly rounded differently, each row uses its own.
SIMCLR_DEVICE Positives positives_of_shifts(const FinishParams& p, bool shared, int i) {
  const Problem& problem = p.problem;
  const bool once = p.visited_once || shared;
  Positives positives{0, 0};
  const auto add = [&](int k, int64_t row) {
    positives.sum += p.positive[k * problem.count() + row];
    ++positives.count;
  };
  for (int k = 0; k < p.pairing.shifts; ++k) {
    const int64_t shift = p.pairing.shift[k];
    if (once && problem.symmetric() && shift < 0) continue;  // that of -shift stands for both
    if (problem.rows.contains(i) && problem.columns.contains(i + shift)) add(k, i);
    const bool columns = once ? problem.has_column_results() : !problem.same();
    if (!columns || !problem.columns.contains(i)) continue;
    if (problem.rows.contains(i - shift)) add(k, once ? i - shift : i);
  }
  return positives;
}

// A sum of exponentials relative to a shift.
struct PowerSum {
  double sum;
  double shift;
};
SIMCLR_DEVICE PowerSum power_sum(const FinishRow& row, bool shared) {
  const SideSums& sums = row.side.sums;
  double sum = 0;
  if (shared) {
    SIMCLR_UNROLL_8  // loads that do not wait for each other
        for (int slot = 0; slot < row.slots; ++slot) sum += sums.sum[row.place_of(slot)];
    return {sum, 0};
  }
  float largest = sums.max[row.place];
  SIMCLR_UNROLL_8
  for (int slot = 1; slot < row.slots; ++slot) {
    largest = fmaxf(largest, sums.max[row.place_of(slot)]);
  }
  SIMCLR_UNROLL_8
  for (int slot = 0; slot < row.slots; ++slot) {
    const int64_t place = row.place_of(slot);
    sum += sums.sum[place] * exp2(static_cast<double>(sums.max[place]) - largest);
  }
  return {sum, largest};
}

SIMCLR_DEVICE Positives positives_of(const FinishParams& p, const FinishRow& row, bool shared) {
  return p.positives != nullptr ? positives_of_label(p, row)
                                : positives_of_shifts(p, shared, row.i);
}

// Computes a row's loss from its partial sums.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_kernel(const FinishParams p) {
  const bool shared = shares_shift(p.exponents, scale_of(p.exponents));
  finish_row(p, shared, [&](const FinishRow& row) {
    const auto [sum, shift] = power_sum(row, shared);
    const Positives positives = positives_of(p, row, shared);
    // Relative to the shift, like the sum, so that both cancel where the positive dominates.
    const double positive = positives.sum / positives.count - shift;
    // If the positive is the only term, its exponent is the exact logarithm of the sum.
    const bool alone = row.side.counted == 1 || p.pairing.denominator == Denominator::kPositives;
    const bool whole = positives.count == 1 && alone && p.pairing.sums_positives();
    const double log_sum = whole ? positive : log2(sum);
    p.lse[row.i] = kLn2 * (log_sum + shift);
    const double loss = kLn2 * (log_sum - positive);
    // Positives that are terms of the sum cannot exceed it: a negative loss is rounding.
    const bool rounding = loss < 0 && p.pairing.sums_positives();
    p.loss[row.i] = positives.count == 0 || rounding ? 0.0f : static_cast<float>(loss);
  });
}

// Computes a row's by-products from its partial sums, which are relative to their own shifts.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_stats_kernel(const StatsFinishParams p) {
  const FinishParams& pass = p.pass;
  finish_row(pass, false, [&](const FinishRow& row) {
    const StatsSums sums = p.sums.of(row.column);
    const auto [sum, shift] = power_sum(row, false);
    double weighted = 0;
    double near = 0;
    float hardest = -INFINITY;
    int index = -1;
    for (int slot = 0; slot < row.slots; ++slot) {
      const int64_t place = row.place_of(slot);
      weighted += sums.weighted[place] * exp2(row.side.sums.max[place] - shift);
      near += sums.near[place];
      const float value = sums.hardest[place];
      const int its_index = sums.hardest_index[place];
      if (!(value > hardest || (value == hardest && its_index < index))) continue;
      hardest = value;
      index = its_index;
    }
    const Positives positives = positives_of(pass, row, false);
    const float scale = scale_of(pass.exponents);
    p.positive[row.i] = static_cast<float>(positives.sum / positives.count / scale);
    p.hardest[row.i] = hardest / scale;
    p.hardest_index[row.i] = index;
    p.mean[row.i] = weighted / sum / scale;
    p.near[row.i] = near;
  });
}

SIMCLR_DEVICE int positives_of_row(const TermsParams& p, int i) {
  return p.pairing.label != nullptr ? p.positives[i] : count_positives(p.problem, p.pairing, i);
}

// The gradient of row i's loss; 0 for a row without positives, whose loss is constant.
SIMCLR_DEVICE float row_grad(const TermsParams& p, int i) {
  return positives_of_row(p, i) > 0 ? p.grad_loss[i * p.grad_loss_stride] : 0.0f;
}

SIMCLR_DEVICE double row_grad_lse(const TermsParams& p, int i) {
  return p.grad_lse == nullptr ? 0 : p.grad_lse[i];
}

// The largest finite gradient of a row.
SIMCLR_DEVICE float largest_gradient(const TermsParams& p) {
  float largest = 0.0f;
  SIMCLR_UNROLL_8
  for (int i = thread_id(); i < p.count; i += kReduceThreads) {
    const float grad = fabsf(row_grad(p, i)) + fabsf(static_cast<float>(row_grad_lse(p, i)));
    if (grad < INFINITY) largest = fmaxf(largest, grad);
  }
  return block_max(largest);
}

// Computes a row's terms of the weights, and recomputes its factor. Every block looks at the
// gradients of all rows, which takes less time than a launch of its own.
SIMCLR_KERNEL(kReduceThreads, 1)
void terms_kernel(const TermsParams p) {
  const float max_grad = largest_gradient(p);
  const int i = block_id() * kReduceThreads + thread_id();
  if (i == 0) {
    *p.max_grad = max_grad;
    *p.blocks_done = 0;
    store_scale(p.exponents);
  }
  if (i >= p.count) return;
  const int positives = positives_of_row(p, i);
  if (p.pairing.label == nullptr) p.positives[i] = positives;
  // In base 2. A row without columns has lse = -infinity and weight 0.
  const double lse = p.lse[i] == -INFINITY ? 0 : p.lse[i] / kLn2;
  const double grad = row_grad(p, i);
  const double grad_lse = row_grad_lse(p, i);
  const bool shared = shares_shift(p.exponents, compute_scale(p.exponents));
  const float row_shift = shared ? 0.0f : static_cast<float>(lse);
  p.row_shift[i] = row_shift;
  const float inv_norm = p.inv_norm == nullptr ? 1.0f : p.inv_norm[i];
  p.factor[i] = inv_norm / largest_power_of_two(inv_norm);
  // The rounding error of the shift is compensated here, in double: P_ij keeps its last bits.
  p.weight[i] = static_cast<float>((grad + grad_lse) * exp2(row_shift - lse) *
                                   exp2i(gain_exponent(max_grad)));
  // P_ip - 1 = expm1(-loss_i): exact even where P_ip is so near 1 that a difference would be noise.
  double single = grad * expm1(-static_cast<double>(p.loss[i]));
  if (grad_lse != 0) single += grad_lse * exp(-static_cast<double>(p.loss[i]));
  p.single[i] = static_cast<float>(single);
  p.share[i] = positives > 0 ? static_cast<float>(grad / positives) : 0.0f;
}

int64_t finish_blocks(const FinishParams& p) {
  return divide_up(p.rows.range.size() + p.columns.range.size(), kRowThreads);
}

}  // namespace

void finish(const FinishParams& p, Stream stream) {
  launch(finish_kernel, finish_blocks(p), kRowThreads, 0, stream, p);
}

void finish_stats(const StatsFinishParams& p, Stream stream) {
  finish(p.pass, stream);
  launch(finish_stats_kernel, finish_blocks(p.pass), kRowThreads, 0, stream, p);
}

void make_terms(const TermsParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.count, kReduceThreads);
  launch(terms_kernel, blocks, kReduceThreads, kReduceBytes, stream, p);
}

}  // namespace simclr::fused
