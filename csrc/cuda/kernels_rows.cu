// Kernels over rows that do not depend on the precision: a row's loss from its partial sums, and
// its terms of the gradient's weights.

#include "cuda/launch.cuh"

namespace simclr::fused {
namespace {

// Adds a row's partial sums, and makes its loss of them.
SIMCLR_KERNEL(kRowThreads, 1)
void finish_kernel(const FinishParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  double sum = 0;
  double shift = p.shift;
  if (p.partial_max == nullptr) {
    for (int strip = 0; strip <= p.strips; ++strip) {
      sum += p.partial_sum[int64_t{strip} * p.count + i];
    }
  } else {
    float largest = p.partial_max[i];
    for (int strip = 1; strip < p.strips; ++strip) {
      largest = fmaxf(largest, p.partial_max[int64_t{strip} * p.count + i]);
    }
    for (int strip = 0; strip < p.strips; ++strip) {
      const int64_t place = int64_t{strip} * p.count + i;
      sum += p.partial_sum[place] * exp2(static_cast<double>(p.partial_max[place]) - largest);
    }
    shift += largest;
  }
  // Relative to the same shift as the sum: where the positive dominates it, they cancel.
  const int place = p.partial_max == nullptr && i >= p.pairs ? i - p.pairs : i;
  const double positive = p.positive[place] + (p.shift - shift);
  // The positive of a single pair is its whole sum, and the logarithm of a power is rounded.
  const double log_sum = p.pairs == 1 ? positive : log2(sum);
  p.lse[i] = kLn2 * (log_sum + shift);
  const double loss = kLn2 * (log_sum - positive);
  // The positive is one of the sum's terms and cannot exceed it: what is negative is rounding.
  p.loss[i] = static_cast<float>(loss < 0 ? 0 : loss);
}

// The largest |grad_loss|, as a float's bits: those of positive numbers are ordered as they are.
SIMCLR_KERNEL(kRowThreads, 1)
void max_grad_kernel(const TermsParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  const float grad = fabsf(p.grad_loss[i * p.grad_loss_stride]);
  if (grad < INFINITY) atomic_max(p.max_grad, float_bits(grad));
}

// A row's terms of the weights, T W_ij = g_i P_ij + g_j P_ji, and its factor again.
SIMCLR_KERNEL(kRowThreads, 1)
void terms_kernel(const TermsParams p) {
  const int i = block_id() * kRowThreads + thread_id();
  if (i >= p.count) return;
  const double lse = p.lse[i] / kLn2;  // of exponents of two
  const double grad = p.grad_loss[i * p.grad_loss_stride];
  const float row_shift = p.shared_shift ? p.shift : static_cast<float>(lse);
  p.row_shift[i] = row_shift;
  const float inv_norm = p.inv_norm == nullptr ? 1.0f : fabsf(p.inv_norm[i]);
  p.factor[i] = inv_norm / largest_power_of_two(inv_norm);
  // What the shift lacks of lse goes here, in double: P_ij keeps its last bits.
  p.weight[i] = static_cast<float>(grad * exp2(row_shift - lse) *
                                   exp2(static_cast<double>(gain_exponent(*p.max_grad))));
  if (i >= p.pairs) return;
  // P_ip - 1 = expm1(-loss_i): exact where P_ip is so near 1 that a difference would be noise.
  const double other_grad = p.grad_loss[(i + p.pairs) * p.grad_loss_stride];
  p.positive_weight[i] =
      static_cast<float>(grad * expm1(-static_cast<double>(p.loss[i])) +
                         other_grad * expm1(-static_cast<double>(p.loss[i + p.pairs])));
}

}  // namespace

void finish(const FinishParams& p, Stream stream) {
  launch(finish_kernel, divide_up(p.count, kRowThreads), kRowThreads, 0, stream, p);
}

void make_terms(const TermsParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.count, kRowThreads);
  launch(max_grad_kernel, blocks, kRowThreads, 0, stream, p);
  launch(terms_kernel, blocks, kRowThreads, 0, stream, p);
}

}  // namespace simclr::fused
