// The weights of the gradient, dL/dx_i = sum_j W_ij y_j and dL/dy_j = sum_i W_ij x_i.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <utility>
#include <vector>

#include "cpu/similarities.h"

namespace simclr {

// Turns tiles of S into tiles of W:
//
//   T W_ij = (g_i + h_i) P_ij - [j positive of i] g_i / n_i, plus the same of j and i,
//   P_ij = exp(s_ij / T - lse_i) of the terms of lse_i, else 0
//
// for the gradients g of the losses and h of the lse.
template <typename T>
class PairWeights {
 public:
  // positives: how many each row has, [count].
  PairWeights(const Similarities<T>& s, std::vector<int64_t> positives)
      : pairing_(s.pairing()),
        exponents_(s.exponents()),
        inv_t_(static_cast<double>(exponents_.scale) * std::numbers::ln2),
        positives_(std::move(positives)),
        shift_(s.count() + simd::kColumnPadding),
        weight_(s.count() + simd::kColumnPadding),
        share_(s.count()),
        single_(s.count()) {}

  // To be called for every row before its tiles. The gradients are of its loss and of its lse.
  void set_row(int64_t i, double grad_loss, double grad_lse, double loss, double lse) {
    const double scale = exponents_.scale;
    const auto positives = static_cast<double>(positives_[i]);
    const double grad = positives > 0 ? grad_loss : 0;  // without positives, no loss
    // A row without columns has lse = -inf; its weight 0 must not be multiplied by infinity.
    const double lse_base2 =
        lse == -std::numeric_limits<double>::infinity() ? 0 : lse * std::numbers::log2e;
    shift_[i] = exponents_.shared ? exponents_.shift : static_cast<T>(lse_base2 / scale);
    // The rounding error of the shift is compensated here, in double: P_ij keeps its last bits.
    weight_[i] =
        static_cast<T>(inv_t_ * (grad + grad_lse) * std::exp2(scale * shift_[i] - lse_base2));
    share_[i] = positives > 0 ? grad / positives : 0;
    // P_ip - 1 = expm1(-loss_i): exact even where P_ip is so near 1 that a difference would be
    // noise.
    single_[i] = grad * std::expm1(-loss);
    if (grad_lse != 0) single_[i] += grad_lse * std::exp(-loss);
  }

  void apply(const simd::TileData<T>& data, const Tile& tile) const {
    const int64_t row = tile.rows.begin;
    const int64_t column = tile.columns.begin;
    leave_out(data, tile, pairing_);
    simd::kernels<T>().pair_weights(data, exponents_.scale, &shift_[row], &shift_[column],
                                    &weight_[row], &weight_[column], exponents_.shared);
    const bool sums_positives = pairing_.sums_positives();
    pairing_.for_each_positive(tile, [&](int64_t i, int64_t j) {
      T& w = element(data, tile, i, j);
      if (sums_positives && positives_[i] == 1 && positives_[j] == 1) {
        w = static_cast<T>(inv_t_ * (single_[i] + single_[j]));
      } else {
        w -= static_cast<T>(inv_t_ * (share_[i] + share_[j]));
      }
    });
  }

 private:
  Pairing pairing_;
  Exponents<T> exponents_;
  double inv_t_;
  std::vector<int64_t> positives_;  // [count]
  std::vector<T> shift_;            // [count], padded for the vector loads of the last block
  std::vector<T> weight_;           // [count], likewise
  std::vector<double> share_;       // [count], g_i / n_i
  std::vector<double> single_;      // [count], g_i (P_ip - 1) + h_i P_ip of a row's only positive
};

}  // namespace simclr
