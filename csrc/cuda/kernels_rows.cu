// Kernels over rows that do not depend on the precision: a row's loss from its partial sums, its
// terms of the gradient's weights, and the sum of the rows' radial parts.

#include "cuda/block.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/pairing.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {
namespace {

// The sum of x_ij over the positives of row i of z, and the number of positives.
struct Positives {
  double sum;
  int count;
};
SIMCLR_DEVICE Positives positives_of_label(const FinishParams& p, int i) {
  double sum = 0;
  for (int slot = 0; slot < p.slots; ++slot) {
    sum += p.positive_sum[int64_t{slot} * p.side.size() + i - p.side.begin];
  }
  return {sum, p.positives[i]};
}
// Without a shared shift, (i, j) and (j, i) are both computed, possibly rounded differently; each
// row then uses its own.
SIMCLR_DEVICE Positives positives_of_shifts(const FinishParams& p, int i) {
  const Problem& problem = p.problem;
  Positives positives{0, 0};
  const auto add = [&](int k, int64_t row) {
    positives.sum += p.positive[k * problem.rows.size() + row - problem.rows.begin];
    ++positives.count;
  };
  for (int k = 0; k < p.pairing.shifts; ++k) {
    const int64_t shift = p.pairing.shift[k];
    if (problem.rows.contains(i) && problem.columns.contains(i + shift)) add(k, i);
    const bool column = p.both_sides && problem.columns.contains(i);
    if (column && problem.rows.contains(i - shift)) add(k, i - shift);
  }
  return positives;
}

// A sum of exponentials relative to a shift.
struct PowerSum {
  double sum;
  double shift;
};
SIMCLR_DEVICE PowerSum power_sum(const FinishParams& p, int64_t row) {
  double sum = 0;
  if (p.max == nullptr) {
    SIMCLR_UNROLL_8  // loads that do not wait for each other
        for (int slot = 0; slot < p.slots; ++slot) sum += p.sum[slot * p.side.size() + row];
    return {sum, 0};
  }
  float largest = p.max[row];
  SIMCLR_UNROLL_8
  for (int slot = 1; slot < p.slots; ++slot) {
    largest = fmaxf(largest, p.max[slot * p.side.size() + row]);
  }
  SIMCLR_UNROLL_8
  for (int slot = 0; slot < p.slots; ++slot) {
    const int64_t place = slot * p.side.size() + row;
    sum += p.sum[place] * exp2(static_cast<double>(p.max[place]) - largest);
  }
  return {sum, largest};
}

SIMCLR_DEVICE Positives positives_of(const FinishParams& p, int i) {
  return p.positives != nullptr ? positives_of_label(p, i) : positives_of_shifts(p, i);
}

// Computes a row's loss from its partial sums.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_kernel(const FinishParams p) {
  const int64_t row = block_id() * kRowThreads + thread_id();
  if (row >= p.side.size() || !is_chosen(p.exponents)) return;
  const int i = static_cast<int>(p.side.begin + row);
  const auto [sum, shift] = power_sum(p, row);
  const Positives positives = positives_of(p, i);
  // Relative to the shift, like the sum, so that both cancel where the positive dominates.
  const double positive = positives.sum / positives.count - shift;
  // If the positive is the only term, its exponent is the exact logarithm of the sum.
  const bool alone = p.counted == 1 || p.pairing.denominator == Denominator::kPositives;
  const bool whole = positives.count == 1 && alone && p.pairing.sums_positives();
  const double log_sum = whole ? positive : log2(sum);
  p.lse[i] = kLn2 * (log_sum + shift);
  const double loss = kLn2 * (log_sum - positive);
  // Positives that are terms of the sum cannot exceed it: a negative loss is rounding.
  const bool rounding = loss < 0 && p.pairing.sums_positives();
  p.loss[i] = positives.count == 0 || rounding ? 0.0f : static_cast<float>(loss);
}

// Computes a row's by-products from its partial sums, which are relative to their own shifts.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_stats_kernel(const StatsFinishParams p) {
  const int64_t row = block_id() * kRowThreads + thread_id();
  const FinishParams& pass = p.pass;
  if (row >= pass.side.size()) return;
  const int i = static_cast<int>(pass.side.begin + row);
  const auto [sum, shift] = power_sum(pass, row);
  double weighted = 0;
  double near = 0;
  float hardest = -INFINITY;
  int index = -1;
  for (int slot = 0; slot < pass.slots; ++slot) {
    const int64_t place = slot * pass.side.size() + row;
    weighted += p.sums.weighted[place] * exp2(pass.max[place] - shift);
    near += p.sums.near[place];
    const float value = p.sums.hardest[place];
    const int column = p.sums.hardest_index[place];
    if (!(value > hardest || (value == hardest && column < index))) continue;
    hardest = value;
    index = column;
  }
  const Positives positives = positives_of(pass, i);
  const float scale = scale_of(pass.exponents);
  p.positive[i] = static_cast<float>(positives.sum / positives.count / scale);
  p.hardest[i] = hardest / scale;
  p.hardest_index[i] = index;
  p.mean[i] = weighted / sum / scale;
  p.near[i] = near;
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

// One block adds all numbers.
SIMCLR_KERNEL(kReduceThreads, 1)
void sum_kernel(const SumParams p) {
  double part = 0;
  SIMCLR_UNROLL_8  // loads that do not wait for each other
      for (int i = thread_id(); i < p.count; i += kReduceThreads) part += p.value[i];
  const double sum = block_sum(part);
  if (thread_id() == 0) *p.result = p.factor * sum / value_of(p.divisor);
}

}  // namespace

void finish(const FinishParams& p, Stream stream) {
  launch(finish_kernel, divide_up(p.side.size(), kRowThreads), kRowThreads, 0, stream, p);
}

void finish_stats(const StatsFinishParams& p, Stream stream) {
  finish(p.pass, stream);
  const int64_t blocks = divide_up(p.pass.side.size(), kRowThreads);
  launch(finish_stats_kernel, blocks, kRowThreads, 0, stream, p);
}

void make_terms(const TermsParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.count, kReduceThreads);
  launch(terms_kernel, blocks, kReduceThreads, kReduceBytes, stream, p);
}

void sum(const SumParams& p, Stream stream) {
  launch(sum_kernel, 1, kReduceThreads, kReduceBytes, stream, p);
}

}  // namespace simclr::fused
