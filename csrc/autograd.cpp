// The loss as a function of torch's autograd, for calls in eager mode: at small N, the same in
// Python (simclr_ext/backends/ops.py) takes longer than the kernels. Python's serves torch.compile,
// torch.func and forward mode, which do not know functions of C++.

#include <ATen/core/grad_mode.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <array>
#include <optional>

#include "checks.h"
#include "simclr_ext.h"

namespace simclr {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Values of simclr_ext.backends.reference.REDUCTIONS, in its order.
enum Reduction : int64_t { kMean, kSum, kNone };

at::Tensor reduce(const at::Tensor& losses, int64_t reduction) {
  return reduction == kMean ? losses.mean() : reduction == kSum ? losses.sum() : losses;
}

// Passes on the results of the backward operator, which refuse to be differentiated.
class GradsOnce : public torch::autograd::Function<GradsOnce> {
 public:
  static variable_list forward(AutogradContext*, const at::Tensor& /*z0*/, const at::Tensor& /*z1*/,
                               const at::Tensor& /*temperature*/, const at::Tensor& /*grad_loss*/,
                               const at::Tensor& grad_z, const at::Tensor& grad_temperature) {
    return {grad_z.view_as(grad_z), grad_temperature.view_as(grad_temperature)};
  }

  static variable_list backward(AutogradContext*, const variable_list&) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false,
        "The loss is differentiable once: its gradient has no derivative. For second derivatives "
        "pass backend='reference'.");
  }
};

// Turns the gradients of the rows, [2N, D], or [N, D] of the one view that needs them, and of the
// temperature, which may be undefined, into those of the inputs of NTXent and NTXentAtOnce.
// grad_loss is what they depend on.
variable_list grads_of_inputs(AutogradContext* ctx, at::Tensor grad_z, at::Tensor grad_temperature,
                              const at::Tensor& z0, const at::Tensor& z1,
                              const at::Tensor& temperature, const at::Tensor& grad_loss) {
  if (at::GradMode::is_enabled()) {  // the gradient's own graph is recorded (create_graph)
    const at::Tensor& learned = temperature.defined() ? temperature : z0;
    const variable_list once =
        GradsOnce::apply(z0, z1, learned, grad_loss, grad_z, grad_temperature);
    grad_z = once[0];
    grad_temperature = once[1];
  }
  const int64_t n = z0.size(0);
  variable_list results(7);
  if (ctx->needs_input_grad(0)) results[0] = grad_z.narrow(0, 0, n).to(z0.scalar_type());
  if (ctx->needs_input_grad(1)) {
    results[1] = grad_z.narrow(0, grad_z.size(0) - n, n).to(z1.scalar_type());
  }
  if (temperature.defined() && ctx->needs_input_grad(2)) {
    results[2] = grad_temperature.to(temperature.device(), temperature.scalar_type());
  }
  return results;
}

// temperature: T as the user's tensor, which receives a gradient; value: as the operators take it.
class NTXent : public torch::autograd::Function<NTXent> {
 public:
  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& z0, const at::Tensor& z1,
                            const std::optional<at::Tensor>& temperature, const at::Tensor& value,
                            int64_t reduction, bool normalize, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const auto [losses, lse, z, inv_norm] = nt_xent_forward(z0, z1, value, normalize, eps);
    ctx->save_for_backward(
        {losses, lse, z, inv_norm, value, z0, z1, temperature.value_or(at::Tensor())});
    ctx->saved_data["reduction"] = reduction;
    ctx->saved_data["eps"] = eps;
    at::Tensor loss = reduce(losses, reduction);
    // The losses are saved, too: as an output they would refer to their own node.
    return reduction == kNone ? loss.alias() : loss;
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    const at::Tensor& losses = saved[0];
    const at::Tensor& z0 = saved[5];
    const at::Tensor& z1 = saved[6];
    const at::Tensor& temperature = saved[7];
    const bool needs_temperature = temperature.defined() && ctx->needs_input_grad(2);
    const int64_t rows = losses.size(0);
    at::Tensor grad_loss = grads[0];
    if (ctx->saved_data["reduction"].toInt() == kMean) grad_loss = grad_loss.div(rows);
    const auto [grad_z, grad_temperature] = [&] {
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      return nt_xent_backward(
          grad_loss.expand({rows}), losses, saved[1], saved[2], saved[3], z0.size(1), saved[4],
          ctx->saved_data["eps"].toDouble(),
          {ctx->needs_input_grad(0), ctx->needs_input_grad(1), needs_temperature});
    }();
    return grads_of_inputs(ctx, grad_z, grad_temperature, z0, z1, temperature, grad_loss);
  }
};

// The same for small batches on the CPU and a reduced loss, whose gradients are computed with it.
// The backward pass multiplies them.
class NTXentAtOnce : public torch::autograd::Function<NTXentAtOnce> {
 public:
  // Whether it takes these inputs and one of them needs a gradient.
  static bool serves(const at::Tensor& z0, const at::Tensor& z1,
                     const std::optional<at::Tensor>& temperature, int64_t reduction) {
    const auto [needs_z0, needs_z1, needs_temperature] = needs_grad(z0, z1, temperature);
    const bool recorded = at::GradMode::is_enabled() && (needs_z0 || needs_z1 || needs_temperature);
    return recorded && reduction != kNone && z0.is_cpu() && z0.dim() == 2 &&
           z0.size(0) <= kMaxPairsAtOnce;
  }

  static at::Tensor forward(AutogradContext* ctx, const at::Tensor& z0, const at::Tensor& z1,
                            const std::optional<at::Tensor>& temperature, const at::Tensor& value,
                            int64_t reduction, bool normalize, double eps) {
    const at::AutoDispatchBelowADInplaceOrView below_autograd;
    const double grad_loss = reduction == kMean ? 1.0 / (2 * z0.size(0)) : 1;
    const auto [losses, grad_z, grad_temperature] = nt_xent_value_and_grad(
        z0, z1, value, normalize, eps, grad_loss, needs_grad(z0, z1, temperature));
    ctx->save_for_backward({grad_z, grad_temperature, z0, z1, temperature.value_or(at::Tensor())});
    return reduce(losses, reduction);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& grads) {
    const variable_list saved = ctx->get_saved_variables();
    at::Tensor grad_z;
    at::Tensor grad_temperature = saved[1];
    {
      const at::AutoDispatchBelowADInplaceOrView below_autograd;
      grad_z = saved[0].mul(grads[0]);
      // Without a learned temperature it is empty; even that product would take two microseconds.
      if (saved[4].defined()) grad_temperature = grad_temperature.mul(grads[0]);
    }
    return grads_of_inputs(ctx, grad_z, grad_temperature, saved[2], saved[3], saved[4], grads[0]);
  }

 private:
  static std::array<bool, 3> needs_grad(const at::Tensor& z0, const at::Tensor& z1,
                                        const std::optional<at::Tensor>& temperature) {
    return {z0.requires_grad(), z1.requires_grad(), temperature && temperature->requires_grad()};
  }
};

at::Tensor nt_xent(const at::Tensor& z0, const at::Tensor& z1,
                   const std::optional<at::Tensor>& temperature, const at::Tensor& value,
                   int64_t reduction, bool normalize, double eps) {
  TORCH_CHECK_VALUE(kMean <= reduction && reduction <= kNone,
                    "reduction must be 0 (mean), 1 (sum) or 2 (none), got ", reduction);
  if (NTXentAtOnce::serves(z0, z1, temperature, reduction)) {
    return NTXentAtOnce::apply(z0, z1, temperature, value, reduction, normalize, eps);
  }
  return NTXent::apply(z0, z1, temperature, value, reduction, normalize, eps);
}

// For a number, whose tensor is made here: in Python that takes microseconds.
at::Tensor nt_xent_of_number(const at::Tensor& z0, const at::Tensor& z1, double temperature,
                             int64_t reduction, bool normalize, double eps) {
  const at::Tensor value = at::scalar_tensor(temperature, at::dtype(at::kDouble).device(at::kCPU));
  return nt_xent(z0, z1, std::nullopt, value, reduction, normalize, eps);
}

at::Tensor nt_xent_learned(const at::Tensor& z0, const at::Tensor& z1,
                           const at::Tensor& temperature, const at::Tensor& value,
                           int64_t reduction, bool normalize, double eps) {
  check_dtype("temperature", temperature);
  TORCH_CHECK_VALUE(temperature.dim() == 0, "temperature must be 0-d, got shape ",
                    temperature.sizes());
  return nt_xent(z0, z1, temperature, value, reduction, normalize, eps);
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CompositeImplicitAutograd, m) {
  m.impl("nt_xent", nt_xent_of_number);
  m.impl("nt_xent.learned", nt_xent_learned);
}

}  // namespace simclr
