// Losses of all rows in one pass over the upper triangle of S:
//
//   loss_i = lse_i - s_{i,p(i)} / T,   lse_i = log sum_{j != i} exp(s_ij / T),
//   p(i)   = (i + N) mod 2N
//
// Each tile adds its row sums to the rows of one block and its column sums to those of the other.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>
#include <torch/library.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <tuple>
#include <utility>
#include <vector>

#include "checks.h"
#include "cpu/parallel.h"
#include "cpu/similarities.h"
#include "simclr_ext.h"

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
        one_pair_(s.num_pairs() == 1),
        // Below every similarity, yet finite: for a row that is all masked, -inf - (-inf) is NaN.
        shift_(s.num_rows() + simd::kColumnPadding,
               shared_ ? s.shared_shift() : std::numeric_limits<T>::lowest()),
        sum_(s.num_rows(), 0.0) {}

  void add(const simd::TileData<T>& data, const Tile& tile) {
    T row_result[Blocks::kMaxRows];
    T column_result[Blocks::kMaxRows + simd::kColumnPadding];
    const auto& kernels = simd::kernels<T>();
    if (!shared_) {
      kernels.tile_max(data, row_result, column_result);
      raise_shifts(tile.rows, row_result);
      if (!tile.diagonal()) raise_shifts(tile.columns, column_result);
    }
    kernels.exp_sums(data, scale_, &shift_[tile.rows.begin], &shift_[tile.columns.begin],
                     row_result, column_result, shared_);
    add_to(tile.rows, row_result);
    if (!tile.diagonal()) add_to(tile.columns, column_result);
  }

  // Returns lse_i and loss_i, given the similarity of row i to its positive.
  std::pair<double, double> finish(int64_t i, T positive) const {
    const double scale = scale_;
    // Relative to the shift, as the sum is: where the positive dominates it, they cancel.
    const double exponent = scale * (positive - shift_[i]);
    // The positive of a single pair is its whole sum, and the logarithm of a power is rounded.
    const double log_sum = one_pair_ ? exponent : std::log2(sum_[i]);
    const double lse = std::numbers::ln2 * (scale * shift_[i] + log_sum);
    const double loss = std::numbers::ln2 * (log_sum - exponent);
    // The positive is one of the sum's terms and cannot exceed it: what is negative is rounding.
    return {lse, loss < 0 ? 0 : loss};
  }

 private:
  void add_to(Range rows, const T* result) {
    for (int64_t i = rows.begin; i < rows.end; ++i) sum_[i] += result[i - rows.begin];
  }

  void raise_shifts(Range rows, const T* max_similarity) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const T shift = std::max(shift_[i], max_similarity[i - rows.begin]);
      sum_[i] *= std::exp2((static_cast<double>(shift_[i]) - shift) * scale_);
      shift_[i] = shift;
    }
  }

  T scale_;
  bool shared_;
  bool one_pair_;
  std::vector<T> shift_;     // [2N], padded for the vector loads of the last block
  std::vector<double> sum_;  // [2N]
};

// Copies both views into one buffer [2N, D] of T and normalises its rows there. Returns it, and
// inv_norm as normalize_rows says, [2N]; or [0] if the rows are to stay as they are.
template <typename T>
std::pair<at::Tensor, at::Tensor> join_views(const at::Tensor& z0, const at::Tensor& z1,
                                             bool normalize, double eps) {
  const int64_t n = z0.size(0);
  const int64_t dim = z0.size(1);
  const auto options = z0.options().dtype(c10::CppTypeToScalarType<T>::value);
  at::Tensor z = at::empty({2 * n, dim}, options);
  z.narrow(0, 0, n).copy_(z0);
  z.narrow(0, n, n).copy_(z1);
  if (!normalize) return {z, at::empty({0}, options)};
  at::Tensor inv_norm = at::empty({2 * n}, options);
  T* row = z.mutable_data_ptr<T>();
  T* inv = inv_norm.mutable_data_ptr<T>();
  const Blocks blocks(2 * n);
  visit_blocks(blocks, dim, [&](int64_t b) {
    const auto [begin, end] = blocks[b];
    simd::kernels<T>().normalize_rows(row + begin * dim, end - begin, dim, eps, inv + begin);
  });
  return {z, inv_norm};
}

// Writes loss [2N] and lse [2N].
template <typename T>
void forward(Similarities<T> s, T* loss, double* lse) {
  RowSums<T> sums(s);
  std::vector<T> positives(s.num_pairs());  // s_{i,i+N}
  visit_tiles(s.blocks(), [&](const Tile& tile) {
    const simd::TileData<T> data = s.compute(tile);
    const Range with_positive = s.rows_with_positive(tile);
    for (int64_t i = with_positive.begin; i < with_positive.end; ++i) {
      positives[i] = s.positive(data, tile, i);
    }
    sums.add(data, tile);
  });
  visit_blocks(s.blocks(), kScalarCost, [&](int64_t b) {
    for (int64_t i = s.blocks()[b].begin; i < s.blocks()[b].end; ++i) {
      const auto [row_lse, row_loss] = sums.finish(i, positives[i % s.num_pairs()]);
      lse[i] = row_lse;
      loss[i] = static_cast<T>(row_loss);
    }
  });
}

ForwardResult forward_cpu(const at::Tensor& z0, const at::Tensor& z1, const at::Tensor& temperature,
                          bool normalize, double eps) {
  check_views(z0, z1);
  check_eps(eps);
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const auto options = z0.options().dtype(compute_dtype(z0));
  at::Tensor loss = at::empty({2 * z0.size(0)}, options);
  at::Tensor lse = at::empty({2 * z0.size(0)}, options.dtype(at::kDouble));
  return AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "nt_xent_forward", [&]() -> ForwardResult {
    const auto [z, inv_norm] = join_views<scalar_t>(z0, z1, normalize, eps);
    forward<scalar_t>({z, temperature_value, normalize}, loss.mutable_data_ptr<scalar_t>(),
                      lse.mutable_data_ptr<double>());
    return {loss, lse, z, inv_norm};
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { m.impl("nt_xent_forward", forward_cpu); }

}  // namespace simclr
