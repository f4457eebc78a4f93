// The backward operators on CUDA tensors: allocations and kernel launches.
//
// Memory beyond inputs and results: 6 numbers per row of both sides; per row of the gradient, one
// more, and D floats for each strip of columns. Large problems have one strip; several take at most
// 64 MiB for the rows, and as much for the columns.

#include <ATen/ops/empty.h>

#include "cuda/gradients.h"
#include "entries.h"

namespace simclr::fused {
namespace {

// Allocates and computes the terms of the weights of all rows of z.
class SavedTerms {
 public:
  SavedTerms(const at::Tensor& grad_loss, const at::Tensor& grad_lse, const at::Tensor& loss,
             const at::Tensor& lse, const at::Tensor& inv_norm, const Operands& operands,
             const Exponents& exponents, Stream stream)
      : floats_(at::empty({5, loss.size(0)}, loss.options())),
        positives_(count_label_positives(operands)),
        max_grad_(at::empty({1}, loss.options())),
        blocks_done_(at::empty({1}, loss.options().dtype(at::kInt))) {
    const int64_t count = loss.size(0);
    if (!positives_.defined()) {
      positives_ = at::empty({count}, loss.options().dtype(at::kInt));
    }
    // In a rank's share too, the weights of a pair need the terms of all rows.
    Problem whole = operands.problem();
    if (whole.same()) whole.rows = whole.columns;
    auto* floats = floats_.mutable_data_ptr<float>();
    p_ = {.problem = whole,
          .pairing = operands.pairing(),
          .grad_loss = grad_loss.const_data_ptr<float>(),
          .grad_loss_stride = grad_loss.stride(0),
          .grad_lse = grad_lse.defined() ? grad_lse.const_data_ptr<double>() : nullptr,
          .loss = loss.const_data_ptr<float>(),
          .lse = lse.const_data_ptr<double>(),
          .inv_norm = inv_norm.numel() > 0 ? inv_norm.const_data_ptr<float>() : nullptr,
          .count = static_cast<int>(count),
          .exponents = exponents,
          .positives = positives_.mutable_data_ptr<int32_t>(),
          .blocks_done = blocks_done_.mutable_data_ptr<int32_t>(),
          .max_grad = max_grad_.mutable_data_ptr<float>(),
          .factor = floats,
          .weight = floats + count,
          .row_shift = floats + 2 * count,
          .single = floats + 3 * count,
          .share = floats + 4 * count};
    make_terms(p_, stream);
  }

  const float* factor() const { return p_.factor; }
  int* blocks_done() const { return p_.blocks_done; }
  Terms terms() const {
    return {p_.max_grad, p_.weight, p_.row_shift, p_.single, p_.share, p_.positives};
  }

 private:
  at::Tensor floats_;
  at::Tensor positives_;
  at::Tensor max_grad_;
  at::Tensor blocks_done_;
  TermsParams p_;
};

// wanted: the rows of z whose gradient is returned.
Gradients backward(const at::Tensor& grad_loss, const at::Tensor& grad_lse, const at::Tensor& loss,
                   const at::Tensor& lse, const at::Tensor& saved_z,
                   const at::Tensor& saved_inv_norm, int64_t dim, const Operands& operands,
                   const at::Tensor& temperature, double eps, Range wanted,
                   bool needs_temperature) {
  check_eps(eps);
  check_layout(saved_z, dim);
  TORCH_CHECK_TYPE(loss.scalar_type() == at::kFloat && lse.scalar_type() == at::kDouble,
                   "loss must be float32 and lse float64, got ", loss.dtype(), " and ",
                   lse.dtype());
  const at::Tensor z = in_units(saved_z);
  const at::Tensor inv_norm = saved_inv_norm.contiguous();
  const Kernels& kernels = kernels_for(z.scalar_type());
  const StreamGuard guard(z);
  const auto doubles = z.options().dtype(at::kDouble);
  at::Tensor grad_z = at::empty({wanted.size(), dim}, z.options());
  if (wanted.size() == 0) return {grad_z, at::empty({0}, doubles)};

  const bool normalized = inv_norm.numel() > 0;
  const ExponentsOfPass exponents(temperature, z, may_share_shift(operands, normalized, dim));
  const at::Tensor double_grad_lse =
      grad_lse.defined() ? grad_lse.to(at::kDouble).contiguous() : at::Tensor();
  const SavedTerms terms(grad_loss.to(at::kFloat), double_grad_lse, loss.contiguous(),
                         lse.contiguous(), inv_norm, operands, exponents.value, guard.stream());
  const at::Tensor radial = at::empty({wanted.size()}, loss.options());
  const at::Tensor grad_temperature =
      needs_temperature ? at::empty({}, doubles) : at::empty({0}, doubles);
  const Problem& problem = operands.problem();
  const Range rows = intersect(problem.rows, wanted);
  const double times = problem.same() ? 2 : 1;  // how often a pair is in the sum
  BackwardParams p{.rows = make_rows(z, dim, terms.factor()),
                   .problem = problem,
                   .pairing = operands.pairing(),
                   .wanted = wanted,
                   .terms = terms.terms(),
                   .inv_norm = normalized ? inv_norm.const_data_ptr<float>() : nullptr,
                   .inv_eps = inverse(eps),
                   .exponents = exponents.value};
  if (needs_temperature) {
    p.sum = {.radial = radial.const_data_ptr<float>() + rows.begin - wanted.begin,
             .count = static_cast<int>(rows.size()),
             .divisor = exponents.value.temperature,
             .factor = -1 / times,
             .result = grad_temperature.mutable_data_ptr<double>(),
             .blocks_done = terms.blocks_done()};
  }
  compute_gradient(
      p, z, kernels, grad_z, radial,
      [&](const BackwardParams& both) { kernels.backward(both, guard.stream()); },
      [&](const WideWeightsParams& tile) { kernels.wide_weights(tile, guard.stream()); },
      [&](const WideGradientParams& sums) { kernels.wide_gradient(sums, guard.stream()); });
  return {grad_z, grad_temperature};
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, SIMCLR_DISPATCH_KEY, m) { register_backward<backward>(m); }

}  // namespace simclr::fused
