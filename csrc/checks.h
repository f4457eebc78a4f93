// Every input check of the operators, once, for all devices.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/item.h>

#include <cmath>
#include <limits>
#include <utility>

namespace simclr {

inline void check_views(const at::Tensor& z0, const at::Tensor& z1) {
  TORCH_CHECK_VALUE(z0.dim() == 2 && z0.size(0) >= 1 && z0.size(1) >= 1,
                    "z0 must be [N, D] with N >= 1 and D >= 1, got shape ", z0.sizes());
  TORCH_CHECK_VALUE(z1.sizes() == z0.sizes(), "z1 must have the shape of z0, ", z0.sizes(),
                    ", got ", z1.sizes());
  TORCH_CHECK_TYPE(at::isFloatingType(z0.scalar_type()), "z0 must be floating, got ", z0.dtype());
  TORCH_CHECK_TYPE(z1.scalar_type() == z0.scalar_type(), "z1 must have the dtype of z0, ",
                   z0.dtype(), ", got ", z1.dtype());
  TORCH_CHECK_VALUE(z1.device() == z0.device(), "z1 must be on the device of z0, ", z0.device(),
                    ", got ", z1.device());
}

// Returns the value of the 0-d tensor `temperature`.
inline double check_temperature(const at::Tensor& temperature) {
  TORCH_CHECK_VALUE(temperature.dim() == 0,
                    "temperature must be a float or a 0-d tensor, got shape ", temperature.sizes());
  const double value = temperature.item<double>();
  TORCH_CHECK_VALUE(std::isfinite(value) && value > 0,
                    "temperature must be positive and finite, got ", value);
  return value;
}

inline void check_eps(double eps) {
  // The reciprocal of anything smaller overflows float.
  constexpr double kSmallest = std::numeric_limits<float>::min();
  TORCH_CHECK_VALUE(std::isfinite(eps) && eps >= kSmallest, "eps must be at least ", kSmallest,
                    " and finite, got ", eps);
}

// What the forward pass saved, and the gradient of its losses.
inline void check_saved(const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse,
                        const at::Tensor& z, const at::Tensor& inv_norm) {
  TORCH_CHECK_VALUE(z.dim() == 2 && z.size(0) >= 2 && z.size(0) % 2 == 0 && z.size(1) >= 1,
                    "z must be [2N, D] with N >= 1 and D >= 1, got shape ", z.sizes());
  const int64_t rows = z.size(0);
  for (const auto& [name, values] :
       {std::pair{"grad_loss", &grad_loss}, {"loss", &loss}, {"lse", &lse}}) {
    TORCH_CHECK_VALUE(values->dim() == 1 && values->size(0) == rows, name, " must be [2N] = [",
                      rows, "], got shape ", values->sizes());
  }
  TORCH_CHECK_VALUE(inv_norm.dim() == 1 && (inv_norm.size(0) == rows || inv_norm.size(0) == 0),
                    "inv_norm must be [2N] = [", rows, "] or [0], got shape ", inv_norm.sizes());
  TORCH_CHECK_TYPE(inv_norm.scalar_type() == loss.scalar_type(),
                   "inv_norm must have the dtype of loss, ", loss.dtype(), ", got ",
                   inv_norm.dtype());
}

// The dtype that the loss of these views is computed in: half types widen to float.
inline at::ScalarType compute_dtype(const at::Tensor& z0) {
  return z0.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

}  // namespace simclr
