// The weights of the sigmoid loss's gradient, dL/dx_i = sum_j W_ij y_j:
//
//   W_ij = scale g_i (sigmoid(u_ij) - [positive])
//
// with the gradients g of the losses, which the columns' rows lack: theirs are 0, and W_ij is
// computed from g_i + g_j, for the transposed problem too. The scale is multiplied at the end.

#pragma once

#include "cuda/mainloop_mma.cuh"
#include "cuda/pairing.cuh"
#include "cuda/sigmoid.cuh"

namespace simclr::fused {

class SigmoidPositives {
 public:
  static constexpr bool kTakesSimilarity = true;

  SIMCLR_DEVICE SigmoidPositives(const BackwardParams& p, const SigmoidScalars& scalars)
      : p_(p), exponents_(sigmoid_exponents(scalars)) {}

  // What the sum is multiplied by at the end.
  SIMCLR_DEVICE float scale() const { return exponents_.scale * static_cast<float>(kLn2); }

  // The weight of a positive, without gain and scale.
  SIMCLR_DEVICE float weight(int i, int j, float similarity) const {
    const float x = similarity * exponents_.scale + exponents_.bias;
    return -sigmoid(-x) * (p_.terms.share[i] + p_.terms.share[j]);
  }

 private:
  const BackwardParams& p_;
  SigmoidExponents exponents_;
};

template <typename C>
class SigmoidWeights {
 public:
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  SIMCLR_DEVICE SigmoidWeights(const BackwardParams& p, const SigmoidScalars& scalars)
      : p_(p), exponents_(sigmoid_exponents(scalars)) {}

  // The loop over columns begin to end, with the terms that their weights need.
  SIMCLR_DEVICE auto main_loop(int begin, int end) const {
    return MainLoop<C, 2>(p_.rows, begin, end, p_.rows.factor, p_.terms.weight);
  }

  SIMCLR_DEVICE void load_rows(int first_row, int end_row) {
    first_row_ = first_row;
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = first_row + row_of<C>(m, 2 * half);
        const bool inside = i < end_row;
        scale_[m][half] = inside ? exponents_.scale * p_.rows.factor[i] : 0.0f;
        weight_[m][half] = inside ? p_.terms.weight[i] : 0.0f;
      }
    }
  }

  // Turns similarities into weights, times gain and the columns' factors, to multiply stored rows.
  // Pairs outside the matrix need no special care: such columns have factor 0 and rows of zeros,
  // and such rows are not stored. Positives become 0: gradient.cuh adds them in float.
  SIMCLR_DEVICE void apply(Tile& w, int stage, int first_column) const {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) weigh_columns(w, stage, n);
    if (meets_special<C>(p_.pairing, first_row_, first_column)) clear_positives(w, first_column);
  }

 private:
  SIMCLR_DEVICE void weigh_columns(Tile& w, int stage, int n) const {
    float factor[2];
    float weight[2];
    SIMCLR_UNROLL
    for (int e = 0; e < 2; ++e) {
      factor[e] = shared_load(stage_terms<C>(stage, 0), column_of(n, e));
      weight[e] = shared_load(stage_terms<C>(stage, 1), column_of(n, e));
    }
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float x = w[m][n][e] * scale_[m][e / 2] * factor[e % 2] + exponents_.bias;
        w[m][n][e] = sigmoid(x) * (weight_[m][e / 2] + weight[e % 2]) * factor[e % 2];
      }
    }
  }

  // One pair after the other: with TileBits, the loop would lack a register on some GPUs.
  SIMCLR_DEVICE void clear_positives(Tile& w, int first_column) const {
    // So that nothing of this is kept in registers.
    const int first_row = opaque(first_row_);
    const int column = opaque(first_column);
    const Pairing pairing = this->pairing();
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int i = first_row + row_of<C>(m, e);
          if (pairing.positive(i, column + column_of(n, e))) w[m][n][e] = 0.0f;
        }
      }
    }
  }

  SIMCLR_DEVICE Pairing pairing() const {
    return pairing_of_side(p_.pairing, is_transposed(p_.problem, first_row_));
  }

  const BackwardParams& p_;
  SigmoidExponents exponents_;
  int first_row_;
  float scale_[C::kRowTiles][2];
  float weight_[C::kRowTiles][2];
};

}  // namespace simclr::fused
