// By-products of the forward pass, per row: the hardest negative, the mean similarity of its terms,
// and how near its negatives are.

#pragma once

#include <ATen/core/Tensor.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "cpu/similarities.h"

namespace simclr {

template <typename T>
class RowStats {
 public:
  explicit RowStats(const Similarities<T>& s)
      : pairing_(s.pairing()),
        exponents_(s.exponents()),
        hardest_(s.count(), -std::numeric_limits<T>::infinity()),
        hardest_index_(s.count(), -1),
        weighted_(s.count(), 0.0),
        near_(s.count(), 0.0),
        ones_(kMaxBlockRows + simd::kColumnPadding, T(1)) {}

  // Adds a tile of terms, whose weights are 2^(scale (s - shift)), to its rows and, if `columns`,
  // to its columns. Overwrites its positives.
  void add(const simd::TileData<T>& data, const Tile& tile, bool columns, const T* row_shift,
           const T* column_shift) {
    T row[kMaxBlockRows];
    T column[kMaxBlockRows + simd::kColumnPadding];
    const auto& kernels = simd::kernels<T>();
    kernels.weighted_sums(data, exponents_.scale, row_shift, column_shift, row, column);
    add_to(weighted_, tile.rows, row);
    if (columns) add_to(weighted_, tile.columns, column);
    pairing_.for_each_positive(tile, [&](int64_t i, int64_t j) {
      element(data, tile, i, j) = -std::numeric_limits<T>::infinity();
    });
    kernels.exp_sums(data, kNearScale, ones_.data(), ones_.data(), row, column, true);
    add_to(near_, tile.rows, row);
    if (columns) add_to(near_, tile.columns, column);
    simd::Index<T> row_arg[kMaxBlockRows];
    simd::Index<T> column_arg[kMaxBlockRows + simd::kColumnPadding];
    kernels.tile_argmax(data, row, row_arg, column, column_arg);
    raise(tile.rows, row, row_arg, tile.columns.begin);
    if (columns) raise(tile.columns, column, column_arg, tile.rows.begin);
  }

  // The weights of row i so far are multiplied by a factor: its shift has risen.
  void rescale(int64_t i, double factor) { weighted_[i] *= factor; }

  // Writes the largest similarity of a negative and its row of z, -inf and -1 without one; the mean
  // similarity of the terms, weighted by softmax, where log2_sum is that of row i relative to its
  // shift; and sum_j exp(-2 |z_i - z_j|^2) over the negatives of unit rows.
  void finish(int64_t i, double log2_sum, T* hardest, int64_t* index, double* mean,
              double* near) const {
    *hardest = hardest_[i];
    *index = hardest_index_[i];
    *mean = weighted_[i] * std::exp2(-log2_sum);
    *near = near_[i];
  }

 private:
  // exp(-2 |x - y|^2) = exp(4 (s - 1)) for unit rows.
  static constexpr T kNearScale = static_cast<T>(4 * std::numbers::log2e);

  static void add_to(std::vector<double>& sums, Range rows, const T* result) {
    for (int64_t i = rows.begin; i < rows.end; ++i) sums[i] += result[i - rows.begin];
  }

  // Of equal similarities, that with the smallest row of z counts, in whatever order tiles come.
  void raise(Range rows, const T* largest, const simd::Index<T>* arg, int64_t first) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const int64_t k = i - rows.begin;
      if (arg[k] < 0) continue;
      const int64_t index = first + arg[k];
      const bool equal = largest[k] == hardest_[i] && index < hardest_index_[i];
      if (!(largest[k] > hardest_[i] || equal)) continue;
      hardest_[i] = largest[k];
      hardest_index_[i] = index;
    }
  }

  Pairing pairing_;
  Exponents<T> exponents_;
  std::vector<T> hardest_;              // [count]
  std::vector<int64_t> hardest_index_;  // [count]
  std::vector<double> weighted_;        // [count]
  std::vector<double> near_;            // [count]
  std::vector<T> ones_;                 // shifts
};

}  // namespace simclr
