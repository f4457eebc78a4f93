// The weights of the gradient, dL/dz_i = sum_j W_ij z_j:
//
//   T W_ij = (g_i + h_i) P_ij - [positive] g_i / n_i, plus the same of j and i
//   (g_i + h_i) P_ij = w_i 2^(x_ij - shift_i), 0 for pairs that are not terms of the lse
//   share_i = g_i / n_i,   single_i = g_i (P_ij - 1) + h_i P_ij
//
// g and h are the gradients of the losses and of the lse. n_i is the number of positives of row i.
// If n_i = n_j = 1, the weight of the pair is single_i + single_j, exact even where P_ij is so near
// 1 that a difference would be noise. All weights of a tile are multiplied by the gain of rows.cuh.

#pragma once

#include "cuda/rows.cuh"
#include "cuda/tile_bits.cuh"

namespace simclr::fused {

// What is added to w_i 2^.. + w_j 2^.. at a positive, or replaces it. Where positives are no terms
// of the lse, that sum is cleared.
struct PositiveWeight {
  bool replaces;
  float value;  // without gain
};
SIMCLR_DEVICE PositiveWeight positive_weight(const BackwardParams& p, int i, int j) {
  const Terms& terms = p.terms;
  if (p.pairing.sums_positives() && terms.positives[i] == 1 && terms.positives[j] == 1) {
    return {true, terms.single[i] + terms.single[j]};
  }
  return {false, -(terms.share[i] + terms.share[j])};
}

// The positives by shifts.
class PairPositives {
 public:
  static constexpr bool kTakesSimilarity = false;

  explicit SIMCLR_DEVICE PairPositives(const BackwardParams& p) : p_(p) {}

  // What the sum is multiplied by at the end, 1 / T.
  SIMCLR_DEVICE float scale() const { return scale_of(p_.exponents) * static_cast<float>(kLn2); }

  // What a positive is missing of its weight, without gain, times T.
  SIMCLR_DEVICE float weight(int i, int j, float /*similarity*/) const {
    return positive_weight(p_, i, j).value;
  }

 private:
  const BackwardParams& p_;
};

// P_ij from its logarithm, which is at most 0, except for pairs that do not count: for these it may
// be anything, and infinity times the weight 0 is NaN.
SIMCLR_DEVICE float softmax(float exponent) { return exp2_fast(fminf(exponent, 0.0f)); }

template <typename C, bool kSharedShift, bool kLabels>
class PairWeights {
 public:
  using Tile = float[C::kRowTiles][C::kColumnTiles][4];

  explicit SIMCLR_DEVICE PairWeights(const BackwardParams& p) : p_(p) {}

  // The loop over columns begin to end, with the terms that their weights need.
  SIMCLR_DEVICE auto main_loop(int begin, int end) const {
    const float* factor = p_.rows.factor;
    const float* weight = p_.terms.weight;
    if constexpr (kSharedShift) {
      return MainLoop<C, 2>(p_.rows, begin, end, factor, weight);
    } else {
      return MainLoop<C, 3>(p_.rows, begin, end, factor, weight, p_.terms.row_shift);
    }
  }

  SIMCLR_DEVICE void load_rows(int first_row, int end_row) {
    first_row_ = first_row;
    const float scale = scale_of(p_.exponents);
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = first_row + row_of<C>(m, 2 * half);
        const bool inside = i < end_row;
        scale_[m][half] = inside ? scale * p_.rows.factor[i] : 0.0f;
        weight_[m][half] = inside ? p_.terms.weight[i] : 0.0f;
        if constexpr (!kSharedShift) shift_[m][half] = inside ? p_.terms.row_shift[i] : 0.0f;
      }
    }
  }

  // Turns similarities into weights, times the columns' factors, to multiply stored rows. Pairs
  // outside the matrix need no special care: such columns have weight 0 and rows of zeros, and such
  // rows are not stored. For positives by shifts, gradient.cuh adds what is left out here.
  SIMCLR_DEVICE void apply(Tile& w, int stage, int first_column) const {
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) weigh_columns(w, stage, n);
    if (p_.pairing.leaves_out()) {
      left_out<C, kLabels>(pairing(), place(first_column)).fill(w, 0.0f);
    }
    if constexpr (kLabels) weigh_positives(w, stage, first_column);
    if (meets_special<C>(p_.pairing, first_row_, first_column)) {
      special_pairs(place(first_column)).fill(w, 0.0f);
    }
  }

 private:
  SIMCLR_DEVICE void weigh_columns(Tile& w, int stage, int n) const {
    float factor[2];
    float weight[2];
    float shift[2];
    SIMCLR_UNROLL
    for (int e = 0; e < 2; ++e) {
      factor[e] = shared_load(stage_terms<C>(stage, 0), column_of(n, e));
      weight[e] = shared_load(stage_terms<C>(stage, 1), column_of(n, e));
      if constexpr (!kSharedShift) {
        shift[e] = shared_load(stage_terms<C>(stage, 2), column_of(n, e));
      }
    }
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) {
        const float x = w[m][n][e] * scale_[m][e / 2] * factor[e % 2];
        float sum;
        if constexpr (kSharedShift) {  // one power serves both
          sum = exp2_fast(x) * (weight_[m][e / 2] + weight[e % 2]);
        } else {
          sum = softmax(x - shift_[m][e / 2]) * weight_[m][e / 2] +
                softmax(x - shift[e % 2]) * weight[e % 2];
        }
        w[m][n][e] = sum * factor[e % 2];
      }
    }
  }

  // For pairs with equal labels; the pairs (i, i) are cleared after this.
  SIMCLR_DEVICE void weigh_positives(Tile& w, int stage, int first_column) const {
    const TilePlace tile = place(first_column);
    TileBits<C> positive;
    positive.add_equal(tile, p_.pairing.label);
    const float gain = exp2i(gain_exponent(*p_.terms.max_grad));
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          if (!positive.has(m, n, e)) continue;
          const int i = tile.first_row + row_of<C>(m, e);
          const PositiveWeight weight = positive_weight(p_, i, first_column + column_of(n, e));
          const float factor = shared_load(stage_terms<C>(stage, 0), column_of(n, e % 2));
          const float rest = weight.replaces ? 0.0f : w[m][n][e];
          w[m][n][e] = rest + weight.value * gain * factor;
        }
      }
    }
  }

  // Rows that meet themselves, and positives by shifts whose whole weight is added later: as in
  // `meets_special`, those of both sides. The tile's ends are not used.
  SIMCLR_DEVICE TileBits<C> special_pairs(const TilePlace& tile) const {
    TileBits<C> special;
    if (p_.pairing.skip_self) special.add_shift(tile, 0);
    SIMCLR_UNROLL
    for (int k = 0; k < Pairing::kMaxShifts; ++k) {
      if (k >= p_.pairing.shifts) continue;
      add_replaced(special, tile, to_int(p_.pairing.shift[k]));
      add_replaced(special, tile, -to_int(p_.pairing.shift[k]));
    }
    return special;
  }
  SIMCLR_DEVICE void add_replaced(TileBits<C>& special, const TilePlace& tile, int shift) const {
    const int count = to_int(p_.problem.columns.end);  // of rows of z
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = tile.first_row + row_of<C>(m, 2 * half);
        const int j = i + shift;
        const uint32_t bit = element_bit<C>(half, j - tile.first_column);
        if (bit == 0 || i >= count || j >= count) continue;
        if (positive_weight(p_, i, j).replaces) special.bits[m] |= bit;
      }
    }
  }

  // Of the side of the block's rows: computed for each tile that needs it, not kept in registers.
  SIMCLR_DEVICE bool transposed() const { return is_transposed(p_.problem, opaque(first_row_)); }
  SIMCLR_DEVICE Pairing pairing() const { return pairing_of_side(p_.pairing, transposed()); }
  SIMCLR_DEVICE TilePlace place(int first_column) const {
    const bool transposed = this->transposed();
    return {.first_row = opaque(first_row_),
            .end_row = to_int(p_.gradients_of(transposed).rows.end),
            .first_column = first_column,
            .end_column = to_int(problem_of_side(p_.problem, transposed).columns.end)};
  }

  const BackwardParams& p_;
  int first_row_;
  float scale_[C::kRowTiles][2];
  float weight_[C::kRowTiles][2];
  float shift_[C::kRowTiles][2];  // only where it is not shared
};

}  // namespace simclr::fused
