// The operators of a device, made of its two passes: NT-Xent and the primitive that it is a case of
// differ in what they check and in their operands alone.

#pragma once

#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <array>
#include <optional>
#include <tuple>

#include "checks.h"
#include "operands.h"
#include "simclr_ext.h"

namespace simclr {

using Gradients = std::tuple<at::Tensor, at::Tensor>;

// y is undefined where the rows are the columns, too.
using ForwardPass = ForwardResult(const at::Tensor& x, const at::Tensor& y,
                                  const Operands& operands, const at::Tensor& temperature,
                                  bool normalize, double eps);
// By-products of the forward pass per row of z, [count] each: see contrastive_stats in
// simclr_ext.h.
struct Stats {
  Stats(int64_t count, const at::TensorOptions& options)
      : positive(at::empty({count}, options)),
        hardest(at::empty({count}, options)),
        hardest_index(at::empty({count}, options.dtype(at::kLong))),
        mean_similarity(at::empty({count}, options.dtype(at::kDouble))),
        near(at::empty({count}, options.dtype(at::kDouble))) {}
  at::Tensor positive;
  at::Tensor hardest;
  at::Tensor hardest_index;
  at::Tensor mean_similarity;
  at::Tensor near;
};
// The same pass with by-products.
using StatsPass = ForwardResult(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                                const at::Tensor& temperature, bool normalize, double eps,
                                const Stats& stats);
// wanted: the rows of z whose gradient is returned.
// grad_lse may be undefined: zeros.
using BackwardPass = Gradients(const at::Tensor& grad_loss, const at::Tensor& grad_lse,
                               const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z,
                               const at::Tensor& inv_norm, int64_t dim, const Operands& operands,
                               const at::Tensor& temperature, double eps, Range wanted,
                               bool needs_temperature);

template <ForwardPass& forward>
ForwardResult nt_xent_forward_entry(const at::Tensor& z0, const at::Tensor& z1,
                                    const at::Tensor& temperature, bool normalize, double eps) {
  check_views(z0, z1);
  return forward(z0, z1, Operands::nt_xent(z0.size(0)), temperature, normalize, eps);
}

// The rows of both views, N each, whose gradient is computed, given whether z0, z1 and the
// temperature need one.
inline Range wanted_views(int64_t n, std::array<bool, 3> needs_grad) {
  const auto [needs_z0, needs_z1, needs_temperature] = needs_grad;
  return {needs_z0 || needs_temperature ? 0 : n, needs_z1 || needs_temperature ? 2 * n : n};
}

template <BackwardPass& backward>
Gradients nt_xent_backward_entry(const at::Tensor& grad_loss, const at::Tensor& loss,
                                 const at::Tensor& lse, const at::Tensor& z,
                                 const at::Tensor& inv_norm, int64_t dim,
                                 const at::Tensor& temperature, double eps,
                                 std::array<bool, 3> needs_grad) {
  check_pairs(z);
  check_saved(grad_loss, loss, lse, z, inv_norm, dim, "2N");
  const int64_t n = z.size(0) / 2;
  return backward(grad_loss, at::Tensor(), loss, lse, z, inv_norm, dim, Operands::nt_xent(n),
                  temperature, eps, wanted_views(n, needs_grad), needs_grad[2]);
}

template <ForwardPass& forward>
ForwardResult contrastive_forward_entry(const at::Tensor& x, const std::optional<at::Tensor>& y,
                                        const at::Tensor& temperature, bool normalize, double eps,
                                        at::IntArrayRef shifts,
                                        const std::optional<at::Tensor>& label,
                                        const std::optional<at::Tensor>& ignored,
                                        c10::string_view denominator, at::IntArrayRef owned) {
  check_sides(x, y);
  const int64_t columns = y ? y->size(0) : 0;
  const Operands operands(x.size(0), columns, shifts, label, ignored, denominator, owned,
                          x.device());
  return forward(x, y.value_or(at::Tensor()), operands, temperature, normalize, eps);
}

template <StatsPass& forward>
StatsResult contrastive_stats_entry(const at::Tensor& x, const std::optional<at::Tensor>& y,
                                    const at::Tensor& temperature, bool normalize, double eps,
                                    at::IntArrayRef shifts, const std::optional<at::Tensor>& label,
                                    const std::optional<at::Tensor>& ignored) {
  check_sides(x, y);
  const int64_t columns = y ? y->size(0) : 0;
  const Operands operands(x.size(0), columns, shifts, label, ignored, "all", {}, x.device());
  const Stats stats(operands.problem().count(), x.options().dtype(compute_dtype(x)));
  const auto [loss, lse, z, inv_norm] =
      forward(x, y.value_or(at::Tensor()), operands, temperature, normalize, eps, stats);
  const auto& [positive, hardest, hardest_index, mean_similarity, near] = stats;
  return {loss, lse, z, inv_norm, positive, hardest, hardest_index, mean_similarity, near};
}

template <BackwardPass& backward>
Gradients contrastive_backward_entry(
    const at::Tensor& grad_loss, const std::optional<at::Tensor>& grad_lse, const at::Tensor& loss,
    const at::Tensor& lse, const at::Tensor& z, const at::Tensor& inv_norm, int64_t dim,
    int64_t rows, const at::Tensor& temperature, double eps, at::IntArrayRef shifts,
    const std::optional<at::Tensor>& label, const std::optional<at::Tensor>& ignored,
    c10::string_view denominator, at::IntArrayRef owned, std::array<bool, 3> needs_grad) {
  check_saved(grad_loss, loss, lse, z, inv_norm, dim, "rows");
  if (grad_lse) check_saved_row("grad_lse", *grad_lse, z, "rows");
  check_side(z, rows);
  const Operands operands(rows, z.size(0) - rows, shifts, label, ignored, denominator, owned,
                          z.device());
  return backward(grad_loss, grad_lse.value_or(at::Tensor()), loss, lse, z, inv_norm, dim, operands,
                  temperature, eps, operands.wanted(needs_grad), needs_grad[2]);
}

template <ForwardPass& forward>
void register_forward(torch::Library& m) {
  m.impl("nt_xent_forward", nt_xent_forward_entry<forward>);
  m.impl("contrastive_forward", contrastive_forward_entry<forward>);
}

template <StatsPass& forward>
void register_stats(torch::Library& m) {
  m.impl("contrastive_stats", contrastive_stats_entry<forward>);
}

template <BackwardPass& backward>
void register_backward(torch::Library& m) {
  m.impl("nt_xent_backward", nt_xent_backward_entry<backward>);
  m.impl("contrastive_backward", contrastive_backward_entry<backward>);
}

}  // namespace simclr
