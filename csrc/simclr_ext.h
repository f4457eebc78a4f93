// The operators for C++ users: link the library, and call these with tensors of any supported
// device.

#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <tuple>

namespace simclr {

// Returns the NT-Xent loss of each of the 2N rows and its lse, both [2N].
//   z0, z1       [N, D] views of one floating dtype; half types are computed in float
//   temperature  0-d, positive
//   normalize    divide each row by max(|row|, eps) first: s_ij is the cosine similarity
std::tuple<at::Tensor, at::Tensor> nt_xent_forward(const at::Tensor& z0, const at::Tensor& z1,
                                                   const at::Tensor& temperature, bool normalize,
                                                   double eps);

// Returns the gradients of sum_i grad_loss[i] * loss[i], given what nt_xent_forward returned:
//   grad_z            with respect to cat(z0, z1), [2N, D]; or to the one view that needs_grad
//   names,
//                     [N, D], where that spares the work on the other
//   grad_temperature  0-d; [0] where needs_grad does not name it
std::tuple<at::Tensor, at::Tensor> nt_xent_backward(
    const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse,
    const at::Tensor& z0, const at::Tensor& z1, const at::Tensor& temperature, bool normalize,
    double eps, std::array<bool, 3> needs_grad /* z0, z1, temperature */);

}  // namespace simclr
