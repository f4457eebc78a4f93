// Per row: the sum of the exponentials of its terms, and that of the similarities of its positives.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "cpu/row_stats.h"
#include "cpu/similarities.h"

namespace simclr {

// Running sums sum_j 2^(scale (s_ij - shift_i)) of all rows of z, and sums of s_ij over positives.
// Without a shared shift, a row's shift is its largest similarity so far, and the sum is rescaled
// when the shift rises.
template <typename T>
class RowSums {
 public:
  // positives: how many each row has, [count].
  // stats: to which the tiles are added, too; may be null.
  RowSums(const Similarities<T>& s, std::vector<int64_t> positives, RowStats<T>* stats = nullptr)
      : stats_(stats),
        problem_(s.problem()),
        pairing_(s.pairing()),
        exponents_(s.exponents()),
        positives_(std::move(positives)),
        // Below every similarity, yet finite: for a fully masked row, -inf - (-inf) is NaN.
        shift_(s.count() + simd::kColumnPadding,
               exponents_.shared ? exponents_.shift : std::numeric_limits<T>::lowest()),
        sum_(s.count(), 0.0),
        positive_sum_(s.count(), 0.0) {}

  void add(const simd::TileData<T>& data, const Tile& tile) {
    const bool columns = problem_.has_column_results() && !tile.diagonal;
    add_positives(data, tile);
    leave_out(data, tile, pairing_);
    T row_result[kMaxBlockRows];
    T column_result[kMaxBlockRows + simd::kColumnPadding];
    const auto& kernels = simd::kernels<T>();
    if (!exponents_.shared) {
      kernels.tile_max(data, row_result, column_result);
      raise_shifts(tile.rows, row_result);
      if (columns) raise_shifts(tile.columns, column_result);
    }
    kernels.exp_sums(data, exponents_.scale, &shift_[tile.rows.begin], &shift_[tile.columns.begin],
                     row_result, column_result, exponents_.shared);
    add_to(tile.rows, row_result);
    if (columns) add_to(tile.columns, column_result);
    if (stats_ == nullptr) return;
    stats_->add(data, tile, columns, &shift_[tile.rows.begin], &shift_[tile.columns.begin]);
  }

  // The mean similarity of the positives of row i; NaN without any.
  T positive(int64_t i) const {
    return static_cast<T>(positive_sum_[i] / static_cast<double>(positives_[i]));
  }
  // The base-2 logarithm of the sum of row i relative to its shift.
  double log2_sum(int64_t i) const { return std::log2(sum_[i]); }

  // Returns lse_i and loss_i.
  std::pair<double, double> finish(int64_t i) const {
    const double scale = exponents_.scale;
    const int64_t positives = positives_[i];
    // Relative to the shift, like the sum, so that both cancel where the positive dominates.
    const double exponent = scale * (positive(i) - shift_[i]);
    const int64_t counted =
        problem_.rows.contains(i) ? problem_.counted_columns() : problem_.counted_rows();
    // If the positive is the only term, its exponent is the exact logarithm of the sum.
    const bool alone = counted == 1 || pairing_.denominator == Denominator::kPositives;
    const bool exact = positives == 1 && alone && pairing_.sums_positives();
    const double log_sum = exact ? exponent : std::log2(sum_[i]);
    const double lse = std::numbers::ln2 * (scale * shift_[i] + log_sum);
    if (positives == 0) return {lse, 0};
    const double loss = std::numbers::ln2 * (log_sum - exponent);
    // Positives that are terms of the sum cannot exceed it: a negative loss is rounding.
    return {lse, loss < 0 && pairing_.sums_positives() ? 0 : loss};
  }

 private:
  // A diagonal tile's upper half serves both rows: some BLAS round s_ij and s_ji differently.
  void add_positives(const simd::TileData<T>& data, const Tile& tile) {
    pairing_.for_each_positive(tile, [&](int64_t i, int64_t j) {
      if (tile.diagonal && i > j) return;
      const double s = element(data, tile, i, j);
      positive_sum_[i] += s;
      if (problem_.has_column_results()) positive_sum_[j] += s;
    });
  }

  void add_to(Range rows, const T* result) {
    for (int64_t i = rows.begin; i < rows.end; ++i) sum_[i] += result[i - rows.begin];
  }

  void raise_shifts(Range rows, const T* max_similarity) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const T shift = std::max(shift_[i], max_similarity[i - rows.begin]);
      const double factor = std::exp2((static_cast<double>(shift_[i]) - shift) * exponents_.scale);
      sum_[i] *= factor;
      if (stats_ != nullptr) stats_->rescale(i, factor);
      shift_[i] = shift;
    }
  }

  RowStats<T>* stats_;
  Problem problem_;
  Pairing pairing_;
  Exponents<T> exponents_;
  std::vector<int64_t> positives_;    // [count]
  std::vector<T> shift_;              // [count], padded for the vector loads of the last block
  std::vector<double> sum_;           // [count]
  std::vector<double> positive_sum_;  // [count]
};

}  // namespace simclr
