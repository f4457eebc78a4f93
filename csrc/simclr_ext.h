// The operators for C++ users: link the library and call these with tensors on any supported
// device.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/string_view.h>

#include <array>
#include <optional>
#include <tuple>

namespace simclr {

// The results of the forward pass. The backward pass needs all of them.
//   loss      [2N] NT-Xent loss of each row, those of z0 first; float, or double for double views
//   lse       [2N] log sum_{j != i} exp(s_ij / T), double
//   z         the rows of both views. On the CPU [2N, D], normalized on request, of the dtype of
//             loss, but bfloat16 rows stay bfloat16, scaled by powers of two; on CUDA [2N, D padded
//             to 16 bytes], of the dtype of the views, scaled by powers of two
//   inv_norm  [2N] 1 / max(|row|, eps), rounded to the dtype of loss; [0] if not normalized
using ForwardResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor>;

//   z0, z1       [N, D] views of one floating dtype; half types are computed in float
//   temperature  0-d, double, from 2^-126 to 2^126; on the CPU, of which a CUDA graph records the
//                value, or for views on CUDA on their device, which the host then does not wait
//                for: there one that is out of range makes all results NaN
//   normalize    divide each row by max(|row|, eps) first: s_ij is the cosine similarity
ForwardResult nt_xent_forward(const at::Tensor& z0, const at::Tensor& z1,
                              const at::Tensor& temperature, bool normalize, double eps);

// Returns the gradients of sum_i grad_loss[i] * loss[i], given the results of the forward pass, D,
// and the same temperature and eps:
//   grad_z            with respect to the raw rows of both views, [2N, D]; or [N, D] if only one
//                     view needs a gradient and the work for the other can be skipped
//   grad_temperature  0-d, double; [0] if it is not needed
std::tuple<at::Tensor, at::Tensor> nt_xent_backward(
    const at::Tensor& grad_loss, const at::Tensor& loss, const at::Tensor& lse, const at::Tensor& z,
    const at::Tensor& inv_norm, int64_t dim, const at::Tensor& temperature, double eps,
    std::array<bool, 3> needs_grad /* z0, z1, temperature */);

// Losses and gradients of small batches at once, on the CPU: up to N = kMaxPairsAtOnce. Returns
// the losses [2N] and the gradients of grad_loss times their sum as nt_xent_backward returns them,
// but grad_z in the dtype of the losses.
constexpr int64_t kMaxPairsAtOnce = 256;
using ValueAndGrad = std::tuple<at::Tensor, at::Tensor, at::Tensor>;
ValueAndGrad nt_xent_value_and_grad(const at::Tensor& z0, const at::Tensor& z1,
                                    const at::Tensor& temperature, bool normalize, double eps,
                                    double grad_loss,
                                    std::array<bool, 3> needs_grad /* z0, z1, temperature */);

// The general operator; NT-Xent is a special case. Row i of x is compared with all columns, which
// are the rows of y:
//
//   lse_i  = log sum_j exp(s_ij / T),   loss_i = lse_i - mean of s_ij / T over its positives,
//
// where the loss is 0 without positives; and column j is compared with all rows in the same way.
// loss and lse are [R + C], those of the rows first; z and inv_norm have R + C rows, x first.
//
//   x, y     [R, D], [C, D]. Without y the columns are the rows, the pairs (i, i) do not count, and
//            loss, lse, z and inv_norm have R rows
//   shifts   the positives of row i are the columns i + shift; without y [k, -k] or []. NT-Xent
//            is [N, -N], InfoNCE [0], a queue of negatives only []
//   label    int32, one for each row of z, instead of shifts: the positives of a row are the
//   columns
//            with its label
//   ignored  int32, one for each row of z: pairs of equal numbers are not terms of the lse, unless
//            they are positive
//   denominator  "all", "negatives" or "positives": which pairs are terms of the lse. Without any,
//            it is -inf
//   owned    [begin, end): only the losses of these rows, [end - begin], over all columns: a part
//            of a larger batch; [] for all. Only without y
ForwardResult contrastive_forward(const at::Tensor& x, const std::optional<at::Tensor>& y,
                                  const at::Tensor& temperature, bool normalize, double eps,
                                  at::IntArrayRef shifts, const std::optional<at::Tensor>& label,
                                  const std::optional<at::Tensor>& ignored,
                                  c10::string_view denominator, at::IntArrayRef owned);

// The same with by-products of the same pass. For each row of z: the mean similarity of its
// positives (NaN without any); the largest similarity of a negative that is a term, and its row of
// z, of equal ones the first (-inf and -1 without one); the mean similarity of the terms, weighted
// by their softmax, double; and sum_j exp(-2 |z_i - z_j|^2) over these negatives, double,
// meaningful for normalized rows.
using StatsResult = std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor, at::Tensor,
                               at::Tensor, at::Tensor, at::Tensor, at::Tensor>;
StatsResult contrastive_stats(const at::Tensor& x, const std::optional<at::Tensor>& y,
                              const at::Tensor& temperature, bool normalize, double eps,
                              at::IntArrayRef shifts, const std::optional<at::Tensor>& label,
                              const std::optional<at::Tensor>& ignored);

// Returns the gradients of sum_i grad_loss[i] loss[i] + grad_lse[i] lse[i], like nt_xent_backward;
// `rows` is R, and without grad_lse it is 0. The gradient is that of the raw rows of x and y, or of
// the one that needs it. With `owned`, it is that of the owned rows, and grad_loss, grad_lse, loss
// and lse are those of all rows, [R]; the parts then add up to the gradients of the whole.
std::tuple<at::Tensor, at::Tensor> contrastive_backward(
    const at::Tensor& grad_loss, const std::optional<at::Tensor>& grad_lse, const at::Tensor& loss,
    const at::Tensor& lse, const at::Tensor& z, const at::Tensor& inv_norm, int64_t dim,
    int64_t rows, const at::Tensor& temperature, double eps, at::IntArrayRef shifts,
    const std::optional<at::Tensor>& label, const std::optional<at::Tensor>& ignored,
    c10::string_view denominator, at::IntArrayRef owned,
    std::array<bool, 3> needs_grad /* x, y, temperature */);

// The sigmoid loss of the rows x [R, D] over all columns y [C, D], with u_ij = scale s_ij + bias:
//
//   loss_i = sum_j log(1 + e^u_ij) over the columns that are not positive
//          + sum_j log(1 + e^-u_ij) over those that are
//
// `scale` (in the range of a temperature) and `bias` are 0-d, double, on the CPU, or for rows on
// CUDA on their device, where a scale that is out of range makes all results NaN; the rest as in
// contrastive_forward. bias_grad [R], double, is the derivative of each loss by the bias.
ForwardResult sigmoid_forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& scale,
                              const at::Tensor& bias, bool normalize, double eps,
                              at::IntArrayRef shifts);

// Returns the gradients of sum_i grad_loss[i] loss[i], R = len(grad_loss), with respect to the raw
// rows of x and y, or the one that needs it, and to the scale, 0-d, double, or [0].
std::tuple<at::Tensor, at::Tensor> sigmoid_backward(
    const at::Tensor& grad_loss, const at::Tensor& z, const at::Tensor& inv_norm, int64_t dim,
    const at::Tensor& scale, const at::Tensor& bias, double eps, at::IntArrayRef shifts,
    std::array<bool, 3> needs_grad /* x, y, scale */);

}  // namespace simclr
