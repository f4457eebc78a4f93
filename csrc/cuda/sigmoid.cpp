// The operators of the sigmoid loss on CUDA tensors: allocations and kernel launches. Scale and
// bias may be in device memory: nothing waits for the device.
//
// Memory beyond inputs and results, for R rows and C columns: forward, the partial sums of at most
// 64 strips, 2 x 64 R floats, and one float per row of z and shift; backward, 3 numbers per row of
// both sides, and per row of the gradient as in backward.cpp.

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <array>

#include "cuda/gradients.h"
#include "simclr_ext.h"

namespace simclr::fused {
namespace {

SigmoidScalars make_scalars(const at::Tensor& scale, const at::Tensor& bias, const at::Tensor& z) {
  return {make_scalar("scale", scale, z, check_scale), make_scalar("bias", bias, z, check_scalar)};
}

Operands sigmoid_operands(int64_t rows, int64_t columns, at::IntArrayRef shifts) {
  return Operands(rows, columns, shifts, std::nullopt, std::nullopt, "all", {}, at::kCPU);
}

// Returns the partial sums of the losses and of the sigmoids of all pairs that are not positive,
// [2, slots, R]; writes u of those that are.
at::Tensor sum_pairs(SigmoidForwardParams p, const Kernels& kernels,
                     const at::TensorOptions& floats, Stream stream) {
  const Problem& problem = p.pass.problem;
  const TileShape tile = kernels.forward_tile(p.pass.rows.dim);
  p.pass.row_strips = forward_strips(problem.rows, tile, kGrid);
  p.pass.column_strips = forward_strips(problem.columns, tile, kGrid);
  const at::Tensor sums = at::empty({2, p.pass.column_strips.count, problem.rows.size()}, floats);
  p.pass.row_sums.sum = sums.mutable_data_ptr<float>();
  p.sigmoid_sum = sums.select(0, 1).mutable_data_ptr<float>();
  kernels.sigmoid_forward(p, stream);
  return sums;
}

// Writes the losses of the rows and their derivatives by the bias, [R] each.
void run_forward(const at::Tensor& z, const Rows& rows, const Operands& operands,
                 const SigmoidScalars& scalars, const Kernels& kernels, const at::Tensor& loss,
                 const at::Tensor& bias_grad, Stream stream) {
  const Problem& problem = operands.problem();
  const auto floats = loss.options();
  const at::Tensor positive = at::empty({operands.pairing().shifts, problem.count()}, floats);
  const SigmoidForwardParams p{.pass = {.rows = rows,
                                        .problem = problem,
                                        .pairing = operands.pairing(),
                                        .positive = positive.mutable_data_ptr<float>()},
                               .scalars = scalars};
  const at::Tensor sums =
      is_wide(rows.dim) ? sum_wide_pairs(z, p, stream) : sum_pairs(p, kernels, floats, stream);
  sigmoid_finish({.problem = problem,
                  .pairing = operands.pairing(),
                  .slots = static_cast<int>(sums.size(1)),
                  .sum = sums.const_data_ptr<float>(),
                  .sigmoid_sum = sums.select(0, 1).const_data_ptr<float>(),
                  .positive = positive.const_data_ptr<float>(),
                  .loss = loss.mutable_data_ptr<float>(),
                  .bias_grad = bias_grad.mutable_data_ptr<double>()},
                 stream);
}

ForwardResult forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& scale,
                      const at::Tensor& bias, bool normalize, double eps, at::IntArrayRef shifts) {
  check_sides(x, y);
  check_eps(eps);
  const Operands operands = sigmoid_operands(x.size(0), y.size(0), shifts);
  const int64_t dim = x.size(1);
  check_size(operands.problem().count(), x, dim);
  const SigmoidScalars scalars = make_scalars(scale, bias, x);
  const Kernels& kernels = kernels_for(x.scalar_type());
  const StreamGuard guard(x);
  const auto [z, factor, inv_norm] = join_rows(x, y, normalize, eps, {}, kernels, guard.stream());
  at::Tensor loss = at::empty({x.size(0)}, x.options().dtype(at::kFloat));
  at::Tensor bias_grad = at::empty({x.size(0)}, x.options().dtype(at::kDouble));
  run_forward(z, make_rows(z, dim, factor.const_data_ptr<float>()), operands, scalars, kernels,
              loss, bias_grad, guard.stream());
  return {loss, bias_grad, z, inv_norm};
}

// The terms of the weights of all rows of z.
struct SavedSigmoidTerms {
  SavedSigmoidTerms(const at::Tensor& grad_loss, const at::Tensor& inv_norm, int64_t count,
                    Stream stream)
      : floats(at::empty({3, count}, grad_loss.options())),
        max_grad(at::empty({1}, grad_loss.options())),
        blocks_done(at::empty({1}, grad_loss.options().dtype(at::kInt))) {
    auto* first = floats.mutable_data_ptr<float>();
    auto* largest = max_grad.mutable_data_ptr<float>();
    factor = first;
    terms = {.max_grad = largest, .weight = first + count, .share = first + 2 * count};
    make_sigmoid_terms(
        {.grad_loss = grad_loss.const_data_ptr<float>(),
         .grad_loss_stride = grad_loss.stride(0),
         .rows = static_cast<int>(grad_loss.size(0)),
         .count = static_cast<int>(count),
         .inv_norm = inv_norm.numel() > 0 ? inv_norm.const_data_ptr<float>() : nullptr,
         .blocks_done = blocks_done.mutable_data_ptr<int32_t>(),
         .max_grad = largest,
         .factor = first,
         .weight = first + count,
         .share = first + 2 * count},
        stream);
  }
  at::Tensor floats;
  at::Tensor max_grad;
  at::Tensor blocks_done;
  const float* factor;
  Terms terms;
};

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad_loss, const at::Tensor& saved_z,
                                            const at::Tensor& saved_inv_norm, int64_t dim,
                                            const at::Tensor& scale, const at::Tensor& bias,
                                            double eps, at::IntArrayRef shifts,
                                            std::array<bool, 3> needs_grad) {
  check_sigmoid_saved(grad_loss, saved_z, saved_inv_norm, dim);
  check_eps(eps);
  check_layout(saved_z, dim);
  const int64_t rows = grad_loss.size(0);
  const Operands operands = sigmoid_operands(rows, saved_z.size(0) - rows, shifts);
  const SigmoidScalars scalars = make_scalars(scale, bias, saved_z);
  const at::Tensor z = in_units(saved_z);
  const at::Tensor inv_norm = saved_inv_norm.contiguous();
  const Kernels& kernels = kernels_for(z.scalar_type());
  const StreamGuard guard(z);
  const auto doubles = z.options().dtype(at::kDouble);
  const Range wanted = operands.wanted(needs_grad);
  at::Tensor grad_z = at::empty({wanted.size(), dim}, z.options());
  if (wanted.size() == 0) return {grad_z, at::empty({0}, doubles)};

  const SavedSigmoidTerms saved(grad_loss.to(at::kFloat), inv_norm, z.size(0), guard.stream());
  const at::Tensor radial = at::empty({wanted.size()}, z.options().dtype(at::kFloat));
  const at::Tensor grad_scale = needs_grad[2] ? at::empty({}, doubles) : at::empty({0}, doubles);
  BackwardParams p{.rows = make_rows(z, dim, saved.factor),
                   .problem = operands.problem(),
                   .pairing = operands.pairing(),
                   .wanted = wanted,
                   .terms = saved.terms,
                   .inv_norm = inv_norm.numel() > 0 ? inv_norm.const_data_ptr<float>() : nullptr,
                   .inv_eps = inverse(eps)};
  if (needs_grad[2]) {
    // s_ij is multiplied by the scale alone: dL/dscale = 1/scale sum_i x_i . dL/dx_i.
    p.sum = {.radial = radial.const_data_ptr<float>(),
             .count = static_cast<int>(rows),
             .divisor = scalars.scale,
             .factor = 1,
             .result = grad_scale.mutable_data_ptr<double>(),
             .blocks_done = saved.blocks_done.mutable_data_ptr<int32_t>()};
  }
  compute_gradient(
      p, z, kernels, grad_z, radial,
      [&](const BackwardParams& both) {
        kernels.sigmoid_backward({both, scalars}, guard.stream());
      },
      [&](const WideWeightsParams& tile) {
        kernels.wide_sigmoid_weights({tile, scalars}, guard.stream());
      },
      [&](const WideGradientParams& sums) {
        kernels.wide_sigmoid_gradient({sums, scalars}, guard.stream());
      });
  return {grad_z, grad_scale};
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, SIMCLR_DISPATCH_KEY, m) {
  m.impl("sigmoid_forward", forward);
  m.impl("sigmoid_backward", backward);
}

}  // namespace simclr::fused
