// Kernels of the sigmoid loss over rows that do not depend on the precision: a row's loss from its
// partial sums, and its terms of the gradient's weights.

#include "cuda/block.cuh"
#include "cuda/kernels.h"
#include "cuda/launch.cuh"
#include "cuda/rows.cuh"

namespace simclr::fused {
namespace {

// Computes a row's loss and its derivative by the bias. Of positives, log(1 + e^u) - u would be
// rounding: they are not in the sums.
SIMCLR_KERNEL(kRowThreads, 1)
void sigmoid_finish_kernel(const SigmoidFinishParams p) {
  const int64_t row = block_id() * kRowThreads + thread_id();
  const int64_t rows = p.problem.rows.size();
  if (row >= rows) return;
  double sum = 0;
  double bias_grad = 0;
  for (int slot = 0; slot < p.slots; ++slot) {
    sum += p.sum[slot * rows + row];
    bias_grad += p.sigmoid_sum[slot * rows + row];
  }
  double loss = kLn2 * sum;
  for (int k = 0; k < p.pairing.shifts; ++k) {
    if (!p.problem.columns.contains(p.problem.rows.begin + row + p.pairing.shift[k])) continue;
    const double u = kLn2 * p.positive[k * p.problem.count() + p.problem.rows.begin + row];
    loss += fmax(-u, 0.0) + log1p(exp(-fabs(u)));  // not NaN for an infinite u
    bias_grad -= 1 / (1 + exp(u));
  }
  p.loss[row] = static_cast<float>(loss);
  p.bias_grad[row] = bias_grad;
}

// The largest finite gradient of a row.
SIMCLR_DEVICE float largest_gradient(const SigmoidTermsParams& p) {
  float largest = 0.0f;
  SIMCLR_UNROLL_8
  for (int i = thread_id(); i < p.rows; i += kReduceThreads) {
    const float grad = fabsf(p.grad_loss[i * p.grad_loss_stride]);
    if (grad < INFINITY) largest = fmaxf(largest, grad);
  }
  return block_max(largest);
}

// Computes a row's terms of the weights, and recomputes its factor. Every block looks at the
// gradients of all rows, which takes less time than a launch of its own.
SIMCLR_KERNEL(kReduceThreads, 1)
void sigmoid_terms_kernel(const SigmoidTermsParams p) {
  const float max_grad = largest_gradient(p);
  const int i = block_id() * kReduceThreads + thread_id();
  if (i == 0) {
    *p.max_grad = max_grad;
    *p.blocks_done = 0;
  }
  if (i >= p.count) return;
  const float inv_norm = p.inv_norm == nullptr ? 1.0f : p.inv_norm[i];
  p.factor[i] = inv_norm / largest_power_of_two(inv_norm);
  const float grad = i < p.rows ? p.grad_loss[i * p.grad_loss_stride] : 0.0f;
  p.share[i] = grad;
  p.weight[i] = grad * exp2i(gain_exponent(max_grad));
}

}  // namespace

void sigmoid_finish(const SigmoidFinishParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.problem.rows.size(), kRowThreads);
  launch(sigmoid_finish_kernel, blocks, kRowThreads, 0, stream, p);
}

void make_sigmoid_terms(const SigmoidTermsParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.count, kReduceThreads);
  launch(sigmoid_terms_kernel, blocks, kReduceThreads, kReduceBytes, stream, p);
}

}  // namespace simclr::fused
