// The operators for C++ users: link the library, and call these with tensors of any supported
// device.

#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>
#include <tuple>

namespace simclr {

// What the forward pass returns. The last three are what the backward pass needs.
//   loss      [2N] NT-Xent loss of each row, those of z0 first; float, or double for double views
//   lse       [2N] log sum_{j != i} exp(s_ij / T), double
//   z         on the CPU [2N, D], the rows of both views, normalized if asked for, of the dtype of
//             loss; on CUDA [2N, D padded to 16 bytes], of the dtype of the views, scaled by powers
//             of two
//   inv_norm  [2N] 1 / max(|row|, eps), negative where eps was the larger; [0] if not normalized
using ForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

//   z0, z1       [N, D] views of one floating dtype; half types are computed in float
//   temperature  0-d, double, on the CPU whatever the device of the views; positive
//   normalize    divide each row by max(|row|, eps) first: s_ij is the cosine similarity
ForwardResult nt_xent_forward(const at::Tensor& z0, const at::Tensor& z1,
                              const at::Tensor& temperature, bool normalize, double eps);

// Returns the gradients of sum_i grad_loss[i] * loss[i], given what the forward pass returned and
// D:
//   grad_z            with respect to the raw rows of both views, [2N, D]; or of the one view that
//                     needs_grad names, [N, D], where that spares the work on the other
//   grad_temperature  0-d, double; [0] where needs_grad does not name it
std::tuple<at::Tensor, at::Tensor> nt_xent_backward(
    const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z,
    const at::Tensor& inv_norm, int64_t dim, const at::Tensor& temperature,
    std::array<bool, 3> needs_grad /* z0, z1, temperature */);

// The primitive of which NT-Xent is a case. Row i of x meets all columns, the rows of y:
//
//   lse_i  = log sum_j exp(s_ij / T),   loss_i = lse_i - mean of s_ij / T over its positives,
//
// 0 without positives; and column j meets all rows in the same way. loss and lse are [R + C], those
// of the rows first; z and inv_norm are of [R + C] rows, x first.
//
//   x, y     [R, D], [C, D]. Without y the rows are the columns, too: a row does not meet itself,
//            and loss, lse, z and inv_norm are of R
//   shifts   the positives of row i are the columns i + shift; without y [k, -k] or []. NT-Xent
//            is [N, -N], InfoNCE [0], a queue of negatives alone []
//   x_label, y_label  [R], [C] int32, in the place of shifts: the positives of a row are the
//            columns of its label; without y x_label is that of the columns, too
//   owned    [begin, end): the losses of these rows alone, [end - begin], over all columns: a part
//            of a larger batch; [] for all. Without y only
ForwardResult contrastive_forward(const at::Tensor& x, const std::optional<at::Tensor>& y,
                                  const at::Tensor& temperature, bool normalize, double eps,
                                  at::IntArrayRef shifts, const std::optional<at::Tensor>& x_label,
                                  const std::optional<at::Tensor>& y_label, at::IntArrayRef owned);

// As nt_xent_backward; `rows` is R. The gradient is that of the raw rows of x and y, or of those
// that needs_grad names; of the owned rows, given grad_loss, loss and lse of all, [R]: the parts
// then add up to the gradients of the whole.
std::tuple<at::Tensor, at::Tensor> contrastive_backward(
    const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z,
    const at::Tensor& inv_norm, int64_t dim, int64_t rows, const at::Tensor& temperature,
    at::IntArrayRef shifts, const std::optional<at::Tensor>& x_label,
    const std::optional<at::Tensor>& y_label, at::IntArrayRef owned,
    std::array<bool, 3> needs_grad /* x, y, temperature */);

}  // namespace simclr
