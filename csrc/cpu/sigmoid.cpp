// The sigmoid loss: every pair on its own, u_ij = scale s_ij + bias,
//
//   loss_i = sum_j log(1 + e^u_ij), and log(1 + e^-u_ij) for positives
//
// with the tiles of S, the products and the rows of the contrastive losses. The gradient's weights
// are W_ij = scale g_i (sigmoid(u_ij) - [j positive of i]).

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/library.h>

#include <cmath>
#include <vector>

#include "checks.h"
#include "cpu/row_gradients.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "operands.h"
#include "simclr_ext.h"

namespace simclr {
namespace {

Operands sigmoid_operands(int64_t rows, int64_t columns, at::IntArrayRef shifts) {
  return Operands(rows, columns, shifts, std::nullopt, std::nullopt, "all", {}, at::kCPU);
}

double softplus(double u) { return std::max(u, 0.0) + std::log1p(std::exp(-std::abs(u))); }
double sigmoid(double u) { return 1 / (1 + std::exp(-u)); }

template <typename T>
class PairSigmoids {
 public:
  PairSigmoids(Similarities<T>& s, double scale, double bias) : s_(s), scale_(scale), bias_(bias) {}

  // Adds a tile to the losses of its rows and to their derivatives by the bias, [rows] each.
  void add_losses(const Tile& tile, int64_t worker, std::vector<double>& loss,
                  std::vector<double>& bias_grad) const {
    const simd::TileData<T> data = s_.compute(tile, worker);
    take_positives(data, tile, [&](int64_t i, int64_t, double u) {
      loss[i] += softplus(-u);
      bias_grad[i] -= sigmoid(-u);
    });
    T softplus_sum[kMaxBlockRows];
    T sigmoid_sum[kMaxBlockRows];
    simd::kernels<T>().softplus_sums(data, static_cast<T>(scale_), static_cast<T>(bias_),
                                     softplus_sum, sigmoid_sum);
    for (int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
      loss[i] += softplus_sum[i - tile.rows.begin];
      bias_grad[i] += sigmoid_sum[i - tile.rows.begin];
    }
  }

  // Adds a tile to the gradients of rows, for weights scale g_i.
  void add_gradients(const Tile& tile, int64_t worker, const std::vector<T>& weight,
                     const RowGradients<T>& grads) const {
    const simd::TileData<T> data = s_.compute(tile, worker);
    std::vector<Positive> positives;
    take_positives(data, tile, [&](int64_t i, int64_t j, double u) {
      positives.push_back({i, j, static_cast<T>(-weight[i] * sigmoid(-u))});
    });
    simd::kernels<T>().sigmoid_weights(data, static_cast<T>(scale_), static_cast<T>(bias_),
                                       &weight[tile.rows.begin]);
    for (const auto& [i, j, value] : positives) element(data, tile, i, j) = value;
    const Matrix<T> w = s_.matrix(tile, worker);
    if (grads.wanted(tile.rows).size() > 0) {
      s_.products().add_rows(w, tile.columns, grads.of(tile.rows), worker);
    }
    if (grads.wanted(tile.columns).size() > 0) {
      s_.products().add_columns(w, tile.rows, grads.of(tile.columns), worker);
    }
  }

 private:
  struct Positive {
    int64_t i;
    int64_t j;
    T weight;
  };

  // Calls visit(i, j, u) for the positives of a tile, and leaves them out of it: of a confident
  // positive, log(1 + e^u) - u would be rounding.
  template <typename Visit>
  void take_positives(const simd::TileData<T>& data, const Tile& tile, const Visit& visit) const {
    s_.pairing().for_each_positive(tile, [&](int64_t i, int64_t j) {
      T& s = element(data, tile, i, j);
      visit(i, j, scale_ * s + bias_);
      s = -std::numeric_limits<T>::infinity();
    });
  }

  Similarities<T>& s_;
  double scale_;
  double bias_;
};

ForwardResult forward(const at::Tensor& x, const at::Tensor& y, const at::Tensor& scale,
                      const at::Tensor& bias, bool normalize, double eps, at::IntArrayRef shifts) {
  check_sides(x, y);
  check_eps(eps);
  check_threads();
  const double scale_value = check_scale("scale", scale);
  const double bias_value = check_scalar("bias", bias);
  const PlainDispatch guard;
  const int64_t rows = x.size(0);
  const Operands operands = sigmoid_operands(rows, y.size(0), shifts);
  const auto options = x.options().dtype(compute_dtype(x));
  at::Tensor loss = at::empty({rows}, options);
  at::Tensor bias_grad = at::empty({rows}, options.dtype(at::kDouble));
  return AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "sigmoid_forward", [&]() -> ForwardResult {
    const Rows z = join_rows<scalar_t>(x, y, normalize);
    Similarities<scalar_t> s(z, operands.problem(), operands.pairing(), 1 / scale_value,
                             /*gradients=*/false);
    std::vector<double> losses(rows, 0.0);
    std::vector<double> bias_grads(rows, 0.0);
    const PairSigmoids<scalar_t> pairs(s, scale_value, bias_value);
    s.visit([&](Range part) { normalize_rows<scalar_t>(z, part, eps); },
            [&](const Tile& tile, int64_t worker) {
              pairs.add_losses(tile, worker, losses, bias_grads);
            },
            [](Range) {});
    for (int64_t i = 0; i < rows; ++i) {
      loss.mutable_data_ptr<scalar_t>()[i] = static_cast<scalar_t>(losses[i]);
      bias_grad.mutable_data_ptr<double>()[i] = bias_grads[i];
    }
    return {loss, bias_grad, z.z, z.inv_norm};
  });
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad_loss, const at::Tensor& z,
                                            const at::Tensor& inv_norm, int64_t dim,
                                            const at::Tensor& scale, const at::Tensor& bias,
                                            double eps, at::IntArrayRef shifts,
                                            std::array<bool, 3> needs_grad) {
  check_sigmoid_saved(grad_loss, z, inv_norm, dim);
  check_unpadded(z, dim);
  check_eps(eps);
  check_threads();
  const double scale_value = check_scale("scale", scale);
  const double bias_value = check_scalar("bias", bias);
  const PlainDispatch guard;
  const int64_t rows = grad_loss.size(0);
  const Operands operands = sigmoid_operands(rows, z.size(0) - rows, shifts);
  const Range wanted = operands.wanted(needs_grad);
  const auto doubles = z.options().dtype(at::kDouble);
  check_stored(z, inv_norm.scalar_type());
  using Gradients = std::tuple<at::Tensor, at::Tensor>;
  return AT_DISPATCH_FLOATING_TYPES(inv_norm.scalar_type(), "sigmoid_backward", [&]() -> Gradients {
    const Rows stored = stored_rows(z, inv_norm);
    RowGradients<scalar_t> grads(stored, wanted, eps);
    if (wanted.size() == 0) return {grads.tensor().to(z.scalar_type()), at::empty({0}, doubles)};
    Similarities<scalar_t> s(stored, operands.problem(), operands.pairing(), 1 / scale_value,
                             /*gradients=*/true);
    const at::Tensor weight_tensor =
        grad_loss.to(at::kDouble).mul(scale_value).to(inv_norm.scalar_type()).contiguous();
    const auto* first = weight_tensor.const_data_ptr<scalar_t>();
    const std::vector<scalar_t> weight(first, first + rows);
    const PairSigmoids<scalar_t> pairs(s, scale_value, bias_value);
    s.visit(
        [&](Range part) { grads.clear(part); },
        [&](const Tile& tile, int64_t worker) { pairs.add_gradients(tile, worker, weight, grads); },
        [&](Range part) { grads.finish(part); });
    const at::Tensor grad_z = grads.tensor().to(z.scalar_type());
    if (!needs_grad[2]) return {grad_z, at::empty({0}, doubles)};
    // s_ij is multiplied by the scale alone: dL/dscale = 1/scale sum_i x_i . dL/dx_i.
    const double radial = grads.radial(operands.problem().rows);
    return {grad_z, at::scalar_tensor(radial / scale_value, doubles)};
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) {
  m.impl("sigmoid_forward", forward);
  m.impl("sigmoid_backward", backward);
}

}  // namespace simclr
