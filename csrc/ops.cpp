// Schemas of the operators, and the C++ functions that call them for the tensors' device.

#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/library.h>

#include "simclr_ext.h"

TORCH_LIBRARY(simclr_ext, m) {
  // In autograd.cpp; the others are operators of the devices, without derivatives.
  m.def(
      "nt_xent(Tensor z0, Tensor z1, float temperature, int reduction, bool normalize, float eps)"
      " -> Tensor");
  m.def(
      "nt_xent.learned(Tensor z0, Tensor z1, Tensor temperature, Tensor value, int reduction,"
      " bool normalize, float eps) -> Tensor");
  m.def(
      "nt_xent_forward(Tensor z0, Tensor z1, Tensor temperature, bool normalize, float eps)"
      " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm)");
  m.def(
      "nt_xent_backward(Tensor grad_loss, Tensor loss, Tensor lse, Tensor z, Tensor inv_norm,"
      " SymInt dim, Tensor temperature, float eps, bool[3] needs_grad)"
      " -> (Tensor grad_z, Tensor grad_temperature)");
  m.def(
      "nt_xent_value_and_grad(Tensor z0, Tensor z1, Tensor temperature, bool normalize, float eps,"
      " float grad_loss, bool[3] needs_grad)"
      " -> (Tensor loss, Tensor grad_z, Tensor grad_temperature)");
  m.def(
      "contrastive_forward(Tensor x, Tensor? y, Tensor temperature, bool normalize, float eps,"
      " int[] shifts, Tensor? label, Tensor? ignored, str denominator, int[] owned)"
      " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm)");
  m.def(
      "contrastive_backward(Tensor grad_loss, Tensor? grad_lse, Tensor loss, Tensor lse, Tensor z,"
      " Tensor inv_norm, SymInt dim, SymInt rows, Tensor temperature, float eps, int[] shifts,"
      " Tensor? label, Tensor? ignored, str denominator, int[] owned, bool[3] needs_grad)"
      " -> (Tensor grad_z, Tensor grad_temperature)");
  m.def(
      "contrastive_stats(Tensor x, Tensor? y, Tensor temperature, bool normalize, float eps,"
      " int[] shifts, Tensor? label, Tensor? ignored)"
      " -> (Tensor loss, Tensor lse, Tensor z, Tensor inv_norm, Tensor positive, Tensor hardest,"
      " Tensor hardest_index, Tensor mean_similarity, Tensor near)");
  m.def(
      "sigmoid_forward(Tensor x, Tensor y, Tensor scale, Tensor bias, bool normalize, float eps,"
      " int[] shifts) -> (Tensor loss, Tensor bias_grad, Tensor z, Tensor inv_norm)");
  m.def(
      "sigmoid_backward(Tensor grad_loss, Tensor z, Tensor inv_norm, SymInt dim, Tensor scale,"
      " Tensor bias, float eps, int[] shifts, bool[3] needs_grad)"
      " -> (Tensor grad_z, Tensor grad_scale)");
}

namespace simclr {
namespace {

template <typename Function>
auto find_operator(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Function>();
}

}  // namespace

ForwardResult nt_xent_forward(const at::Tensor& z0, const at::Tensor& z1,
                              const at::Tensor& temperature, bool normalize, double eps) {
  static const auto op = find_operator<decltype(nt_xent_forward)>("simclr_ext::nt_xent_forward");
  return op.call(z0, z1, temperature, normalize, eps);
}

std::tuple<at::Tensor, at::Tensor> nt_xent_backward(const at::Tensor& grad_loss,
                                                    const at::Tensor& loss, const at::Tensor& lse,
                                                    const at::Tensor& z, const at::Tensor& inv_norm,
                                                    int64_t dim, const at::Tensor& temperature,
                                                    double eps, std::array<bool, 3> needs_grad) {
  using Backward = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
      c10::SymInt, const at::Tensor&, double, std::array<bool, 3>);
  static const auto op = find_operator<Backward>("simclr_ext::nt_xent_backward");
  return op.call(grad_loss, loss, lse, z, inv_norm, dim, temperature, eps, needs_grad);
}

ValueAndGrad nt_xent_value_and_grad(const at::Tensor& z0, const at::Tensor& z1,
                                    const at::Tensor& temperature, bool normalize, double eps,
                                    double grad_loss, std::array<bool, 3> needs_grad) {
  static const auto op =
      find_operator<decltype(nt_xent_value_and_grad)>("simclr_ext::nt_xent_value_and_grad");
  return op.call(z0, z1, temperature, normalize, eps, grad_loss, needs_grad);
}

ForwardResult contrastive_forward(const at::Tensor& x, const std::optional<at::Tensor>& y,
                                  const at::Tensor& temperature, bool normalize, double eps,
                                  at::IntArrayRef shifts, const std::optional<at::Tensor>& label,
                                  const std::optional<at::Tensor>& ignored,
                                  c10::string_view denominator, at::IntArrayRef owned) {
  static const auto op =
      find_operator<decltype(contrastive_forward)>("simclr_ext::contrastive_forward");
  return op.call(x, y, temperature, normalize, eps, shifts, label, ignored, denominator, owned);
}

std::tuple<at::Tensor, at::Tensor> contrastive_backward(
    const at::Tensor& grad_loss, const std::optional<at::Tensor>& grad_lse, const at::Tensor& loss,
    const at::Tensor& lse, const at::Tensor& z, const at::Tensor& inv_norm, int64_t dim,
    int64_t rows, const at::Tensor& temperature, double eps, at::IntArrayRef shifts,
    const std::optional<at::Tensor>& label, const std::optional<at::Tensor>& ignored,
    c10::string_view denominator, at::IntArrayRef owned, std::array<bool, 3> needs_grad) {
  using Backward = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const std::optional<at::Tensor>&, const at::Tensor&, const at::Tensor&,
      const at::Tensor&, const at::Tensor&, c10::SymInt, c10::SymInt, const at::Tensor&, double,
      at::IntArrayRef, const std::optional<at::Tensor>&, const std::optional<at::Tensor>&,
      c10::string_view, at::IntArrayRef, std::array<bool, 3>);
  static const auto op = find_operator<Backward>("simclr_ext::contrastive_backward");
  return op.call(grad_loss, grad_lse, loss, lse, z, inv_norm, dim, rows, temperature, eps, shifts,
                 label, ignored, denominator, owned, needs_grad);
}

StatsResult contrastive_stats(const at::Tensor& x, const std::optional<at::Tensor>& y,
                              const at::Tensor& temperature, bool normalize, double eps,
                              at::IntArrayRef shifts, const std::optional<at::Tensor>& label,
                              const std::optional<at::Tensor>& ignored) {
  static const auto op =
      find_operator<decltype(contrastive_stats)>("simclr_ext::contrastive_stats");
  return op.call(x, y, temperature, normalize, eps, shifts, label, ignored);
}

ForwardResult sigmoid_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& scale,
                              const at::Tensor& bias, bool normalize, double eps,
                              at::IntArrayRef shifts) {
  static const auto op = find_operator<decltype(sigmoid_forward)>("simclr_ext::sigmoid_forward");
  return op.call(x, y, scale, bias, normalize, eps, shifts);
}

std::tuple<at::Tensor, at::Tensor> sigmoid_backward(const at::Tensor& grad_loss,
                                                    const at::Tensor& z, const at::Tensor& inv_norm,
                                                    int64_t dim, const at::Tensor& scale,
                                                    const at::Tensor& bias, double eps,
                                                    at::IntArrayRef shifts,
                                                    std::array<bool, 3> needs_grad) {
  using Backward = std::tuple<at::Tensor, at::Tensor>(
      const at::Tensor&, const at::Tensor&, const at::Tensor&, c10::SymInt, const at::Tensor&,
      const at::Tensor&, double, at::IntArrayRef, std::array<bool, 3>);
  static const auto op = find_operator<Backward>("simclr_ext::sigmoid_backward");
  return op.call(grad_loss, z, inv_norm, dim, scale, bias, eps, shifts, needs_grad);
}

}  // namespace simclr
