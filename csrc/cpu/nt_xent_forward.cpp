// Losses of all rows in one pass over the upper triangle of S:
//
//   loss_i = lse_i - s_{i,p(i)} / T,   lse_i = log sum_{j != i} exp(s_ij / T),   p(i) = (i + N) mod
//   2N
//
// Each tile adds its row sums to the rows of one block and its column sums to those of the other.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/parallel.h"
#include "cpu/similarities.h"

namespace simclr {
namespace {

// Running sums sum_j 2^(scale (s_ij - shift_i)) of all rows. Where no shift is known to suit all
// rows, a row's shift is its largest similarity so far, and the sum follows when that rises.
template <typename T>
class RowSums {
 public:
  explicit RowSums(const Similarities<T>& s)
      : scale_(s.scale()),
        shared_(s.has_shared_shift()),
        // Below every similarity, yet finite: -inf - (-inf) would be NaN for a row that is all
        // masked.
        shift_(s.num_rows() + simd::kColumnPadding,
               shared_ ? s.shared_shift() : std::numeric_limits<T>::lowest()),
        sum_(s.num_rows(), 0.0) {}

  // `rows` and `cols` are the rows of the batch that the tile's rows and columns stand for.
  void add(const simd::Tile<T>& tile, Range rows, Range cols, bool diagonal) {
    T row_result[Blocks::kMaxRows];
    T col_result[Blocks::kMaxRows + simd::kColumnPadding];
    const auto& kernels = simd::kernels<T>();
    if (!shared_) {
      kernels.tile_max(tile, row_result, col_result);
      raise_shifts(rows, row_result);
      if (!diagonal) raise_shifts(cols, col_result);
    }
    kernels.exp_sums(tile, scale_, &shift_[rows.begin], &shift_[cols.begin], row_result, col_result,
                     shared_);
    for (int64_t i = rows.begin; i < rows.end; ++i) sum_[i] += row_result[i - rows.begin];
    if (diagonal) return;  // the columns are the rows
    for (int64_t i = cols.begin; i < cols.end; ++i) sum_[i] += col_result[i - cols.begin];
  }

  // log sum_j exp(s_ij / T)
  double lse(int64_t i) const {
    return std::numbers::ln2 * (static_cast<double>(scale_) * shift_[i] + std::log2(sum_[i]));
  }
  // log sum_j exp((s_ij - s_ip) / T), given s_ip. Rounds its logit as the sum did, and as one of
  // the sum's terms it cannot exceed it: what is negative is rounding.
  double loss(int64_t i, T positive) const {
    const T logit = (positive - shift_[i]) * scale_;
    const double loss = std::numbers::ln2 * (std::log2(sum_[i]) - logit);
    return loss < 0 ? 0 : loss;
  }

 private:
  void raise_shifts(Range rows, const T* max_similarity) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const T shift = std::max(shift_[i], max_similarity[i - rows.begin]);
      sum_[i] *= std::exp2((static_cast<double>(shift_[i]) - shift) * scale_);
      shift_[i] = shift;
    }
  }

  T scale_;
  bool shared_;
  std::vector<T> shift_;     // [2N], padded for the vector loads of the last block
  std::vector<double> sum_;  // [2N]
};

template <typename T>
void forward(Similarities<T> s, T* loss, double* lse) {
  RowSums<T> sums(s);
  std::vector<T> positives(s.num_pairs());  // s_{i,i+N}
  visit_tiles(s.blocks(), [&](BlockPair pair) {
    const simd::Tile<T> tile = s.tile(pair);
    const Range with_positive = s.rows_with_positive(pair);
    for (int64_t i = with_positive.begin; i < with_positive.end; ++i) {
      positives[i] = s.positive(tile, pair, i);
    }
    sums.add(tile, s.blocks()[pair.a], s.blocks()[pair.b], pair.diagonal());
  });
  for (int64_t i = 0; i < s.num_rows(); ++i) {
    lse[i] = sums.lse(i);
    loss[i] = static_cast<T>(sums.loss(i, positives[i % s.num_pairs()]));
  }
}

std::tuple<at::Tensor, at::Tensor> forward_cpu(const at::Tensor& z0, const at::Tensor& z1,
                                               const at::Tensor& temperature, bool normalize,
                                               double eps) {
  check_views(z0, z1);
  check_eps(eps);
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  at::Tensor loss = at::empty({2 * z0.size(0)}, z0.options().dtype(compute_dtype(z0)));
  at::Tensor lse = at::empty({2 * z0.size(0)}, z0.options().dtype(at::kDouble));
  AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "nt_xent_forward", [&] {
    forward<scalar_t>({z0, z1, temperature_value, normalize, eps},
                      loss.mutable_data_ptr<scalar_t>(), lse.mutable_data_ptr<double>());
  });
  return {loss, lse};
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { m.impl("nt_xent_forward", forward_cpu); }

}  // namespace simclr
