// Gradients of sum_i g_i loss_i, with the tiles of S computed again:
//
//   dL/dz_i = sum_j W_ij z_j,   W_ij = (g_i P_ij + g_j P_ji - [j = p(i)] (g_i + g_j)) / T,
//                               P_ij = exp(s_ij / T - lse_i),   W_ii = 0
//
// W is symmetric: the tile of blocks (a, b) serves dZ_a += W Z_b and dZ_b += W^T Z_a.
// The temperature's gradient is a by-product of normalising: dL/dT = -1/(2T) sum_i z_i . dL/dz_i.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/parallel.h"
#include "cpu/similarities.h"

namespace simclr {
namespace {

std::vector<double> to_doubles(const at::Tensor& rows) {
  std::vector<double> values(rows.size(0));
  AT_DISPATCH_FLOATING_TYPES(rows.scalar_type(), "nt_xent_backward", [&] {
    const auto row = rows.accessor<const scalar_t, 1>();
    for (int64_t i = 0; i < rows.size(0); ++i) values[i] = row[i];
  });
  return values;
}

// Turns tiles of S into tiles of W.
template <typename T>
class PairWeights {
 public:
  PairWeights(const Similarities<T>& s, const std::vector<double>& grad_loss,
              const std::vector<double>& loss, const std::vector<double>& lse)
      : scale_(s.scale()),
        shared_(s.has_shared_shift()),
        shift_(s.num_rows() + simd::kColumnPadding),
        weight_(s.num_rows() + simd::kColumnPadding),
        positive_weight_(s.num_pairs()) {
    const double scale = scale_;
    const double inv_t = scale * std::numbers::ln2;
    visit_blocks(s.blocks(), kScalarCost, [&](int64_t b) {
      const Range rows = s.blocks()[b];
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        const double lse_base2 = lse[i] * std::numbers::log2e;
        shift_[i] = shared_ ? s.shared_shift() : static_cast<T>(lse_base2 / scale);
        // What the shift lacks of lse_i goes here, in double: P_ij keeps its last bits.
        weight_[i] =
            static_cast<T>(inv_t * grad_loss[i] * std::exp2(scale * shift_[i] - lse_base2));
      }
      // P_ip - 1 = expm1(-loss_i): exact where P_ip is so near 1 that a difference would be noise.
      for (int64_t i = rows.begin; i < std::min(rows.end, s.num_pairs()); ++i) {
        const int64_t p = i + s.num_pairs();
        positive_weight_[i] = static_cast<T>(
            inv_t * (grad_loss[i] * std::expm1(-loss[i]) + grad_loss[p] * std::expm1(-loss[p])));
      }
    });
  }

  void apply(const Similarities<T>& s, const Tile& tile, const simd::TileData<T>& data) const {
    const int64_t row = tile.rows.begin;
    const int64_t column = tile.columns.begin;
    simd::kernels<T>().pair_weights(data, scale_, &shift_[row], &shift_[column], &weight_[row],
                                    &weight_[column], shared_);
    const Range with_positive = s.rows_with_positive(tile);
    for (int64_t i = with_positive.begin; i < with_positive.end; ++i) {
      s.positive(data, tile, i) = positive_weight_[i];
      if (tile.diagonal()) s.mirrored_positive(data, tile, i) = positive_weight_[i];
    }
  }

 private:
  T scale_;
  bool shared_;
  std::vector<T> shift_;            // [2N], padded for the vector loads of the last block
  std::vector<T> weight_;           // [2N], likewise
  std::vector<T> positive_weight_;  // [N], W_{i,i+N}
};

// Writes dL/dZ of the rows `wanted` to `grad_z` [wanted, D], zeros before.
template <typename T>
void accumulate_grad(Similarities<T>& s, const PairWeights<T>& weights, Range wanted,
                     const at::Tensor& grad_z) {
  const auto grad_of = [&](Range part) {
    return grad_z.narrow(0, part.begin - wanted.begin, part.size());
  };
  visit_tiles(s.blocks(), [&](const Tile& tile) {
    const Range rows = intersect(tile.rows, wanted);
    const Range columns = intersect(tile.columns, wanted);
    if (rows.size() + columns.size() == 0) return;
    weights.apply(s, tile, s.compute(tile));
    const at::Tensor w = s.matrix(tile);
    if (rows.size() > 0) {
      const at::Tensor part = w.narrow(0, rows.begin - tile.rows.begin, rows.size());
      s.products().add_rows(part, tile.columns, grad_of(rows));
    }
    if (columns.size() > 0 && !tile.diagonal()) {
      const at::Tensor part = w.narrow(1, columns.begin - tile.columns.begin, columns.size());
      s.products().add_columns(part, tile.rows, grad_of(columns));
    }
  });
}

// Turns dL/dZ into the gradient of the raw rows, and returns sum_i z_i . dL/dz_i.
template <typename T>
double finish_grad(const Similarities<T>& s, const at::Tensor& inv_norm, Range wanted,
                   const at::Tensor& grad_z) {
  const T* inv = inv_norm.numel() == 0 ? nullptr : inv_norm.const_data_ptr<T>();
  T* grad = grad_z.mutable_data_ptr<T>();
  std::vector<double> radial(s.blocks().count(), 0.0);
  visit_blocks(s.blocks(), s.dim(), [&](int64_t b) {
    const Range part = intersect(s.blocks()[b], wanted);
    if (part.size() == 0) return;
    radial[b] = simd::kernels<T>().normalize_rows_backward(
        s.row(part.begin), grad + (part.begin - wanted.begin) * s.dim(), part.size(), s.dim(),
        inv == nullptr ? nullptr : inv + part.begin);
  });
  return std::accumulate(radial.begin(), radial.end(), 0.0);
}

std::tuple<at::Tensor, at::Tensor> backward_cpu(const at::Tensor& grad_loss, const at::Tensor& loss,
                                                const at::Tensor& lse, const at::Tensor& z,
                                                const at::Tensor& inv_norm, int64_t dim,
                                                const at::Tensor& temperature,
                                                std::array<bool, 3> needs_grad) {
  check_saved(grad_loss, loss, lse, z, inv_norm, dim);
  TORCH_CHECK_VALUE(dim == z.size(1), "z must be [2N, D] with D = dim = ", dim, ", got shape ",
                    z.sizes());
  TORCH_CHECK_TYPE(z.scalar_type() == loss.scalar_type(), "z must have the dtype of loss, ",
                   loss.dtype(), ", got ", z.dtype());
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const auto [needs_z0, needs_z1, needs_temperature] = needs_grad;
  const int64_t n = z.size(0) / 2;
  const Range wanted{needs_z0 || needs_temperature ? 0 : n,
                     needs_z1 || needs_temperature ? 2 * n : n};
  const at::Tensor grad_z = at::zeros({wanted.size(), z.size(1)}, z.options());
  double radial = 0;
  AT_DISPATCH_FLOATING_TYPES(z.scalar_type(), "nt_xent_backward", [&] {
    Similarities<scalar_t> s(z.contiguous(), temperature_value, inv_norm.numel() > 0);
    const PairWeights<scalar_t> weights(s, to_doubles(grad_loss), to_doubles(loss),
                                        to_doubles(lse));
    accumulate_grad(s, weights, wanted, grad_z);
    radial = finish_grad(s, inv_norm.contiguous(), wanted, grad_z);
  });
  at::Tensor grad_temperature =
      needs_temperature
          ? at::scalar_tensor(-radial / (2 * temperature_value), z.options().dtype(at::kDouble))
          : at::empty({0}, z.options().dtype(at::kDouble));
  return {grad_z, grad_temperature};
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { m.impl("nt_xent_backward", backward_cpu); }

}  // namespace simclr
