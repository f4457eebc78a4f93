// Per row: the sum of the sigmoid losses of its pairs, and of their derivatives by the bias.

#pragma once

#include "cuda/mainloop_mma.cuh"
#include "cuda/sigmoid.cuh"

namespace simclr::fused {

template <typename C>
class SigmoidSums {
 public:
  static constexpr bool kSharedShift = false;
  static constexpr bool kStats = false;
  static constexpr bool kSumsPositives = false;
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  explicit SIMCLR_DEVICE SigmoidSums(const SigmoidForwardParams& p)
      : sigmoid_sum_(p.sigmoid_sum), exponents_(sigmoid_exponents(p.scalars)) {}

  SIMCLR_DEVICE float scale(const ForwardParams&) const { return exponents_.scale; }
  SIMCLR_DEVICE float shift(const ForwardParams&) const { return -exponents_.bias; }

  SIMCLR_DEVICE void clear() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) sum_[m][half] = {0.0f, 0.0f};
    }
  }

  // Adds a tile of exponents. Positives, and pairs outside of the matrix, are -infinity.
  SIMCLR_DEVICE void add(const Tile& x, int /*stage*/) {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const PairSigmoid pair = pair_sigmoid(x[m][n][e]);
          sum_[m][e / 2].loss += pair.loss;
          sum_[m][e / 2].sigmoid += pair.sigmoid;
        }
      }
    }
  }

  // Stores the sums of the rows, up to `rows` of the block's, from `place` on.
  SIMCLR_DEVICE void store(const ForwardParams& p, bool /*transposed*/, int64_t place,
                           int rows) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        PairSigmoid sum = sum_[m][half];
        SIMCLR_UNROLL
        for (int lanes = 1; lanes <= 2; lanes *= 2) {  // the four lanes that share a row
          sum.loss += shuffle_xor(sum.loss, lanes);
          sum.sigmoid += shuffle_xor(sum.sigmoid, lanes);
        }
        const int row = row_of<C>(m, 2 * half);
        if (lane_id() % 4 != 0 || row >= rows) continue;
        p.row_sums.sum[place + row] = sum.loss;
        sigmoid_sum_[place + row] = sum.sigmoid;
      }
    }
  }

 private:
  float* sigmoid_sum_;
  SigmoidExponents exponents_;
  PairSigmoid sum_[C::kRowTiles][2];
};

}  // namespace simclr::fused
