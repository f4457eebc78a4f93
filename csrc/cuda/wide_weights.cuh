// The backward pass over a tile in device memory: products become weights of the gradient, as in
// pair_weights.cuh and sigmoid_weights.cuh.
//
// A tile's weights multiply its columns for the gradient of its rows, and its rows for that of its
// columns. As stored rows are z_i / factor_i, both factors are in the weights:
//
//   G_i = sum_j W_ij factor_i factor_j row_j,   dL/dz_i = G_i / factor_i

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/sigmoid_weights.cuh"
#include "cuda/wide_tile.cuh"

namespace simclr::fused {

// Of one side of a pair.
struct WideTerms {
  float factor;
  float weight;
  float shift;  // where it is not shared
};

template <bool kSharedShift, bool kLabels>
class WidePairWeights {
 public:
  SIMCLR_DEVICE WidePairWeights(const BackwardParams& p, const WideBlock& block)
      : p_(p),
        block_(block),
        is_special_(block.is_special(p.pairing)),
        scale_(scale_of(p.exponents)) {}

  SIMCLR_DEVICE WideTerms terms(int i) const {
    return {p_.rows.factor[i], p_.terms.weight[i], kSharedShift ? 0.0f : p_.terms.row_shift[i]};
  }

  // The weight of a pair, times gain and both factors, from the product of its stored rows.
  SIMCLR_DEVICE float weight(float s, int i, const WideTerms& row, int j,
                             const WideTerms& column) const {
    const float x = s * (scale_ * row.factor) * column.factor;
    float sum;
    if constexpr (kSharedShift) {  // one power serves both
      sum = exp2_fast(x) * (row.weight + column.weight);
    } else {
      sum = softmax(x - row.shift) * row.weight + softmax(x - column.shift) * column.weight;
    }
    if (is_special_ && clears(i, j)) return 0.0f;
    if (p_.pairing.leaves_out() && block_.has_column(j) && !p_.pairing.summed(i, j)) sum = 0.0f;
    if constexpr (kLabels) {
      if (block_.has_column(j) && p_.pairing.positive(i, j)) {
        const PositiveWeight positive = positive_weight(p_, i, j);
        const float gain = exp2i(gain_exponent(*p_.terms.max_grad));
        sum = (positive.replaces ? 0.0f : sum) + positive.value * gain;
      }
    }
    return sum * row.factor * column.factor;
  }

 private:
  // Rows that meet themselves, pairs below the diagonal, and positives by shifts whose whole weight
  // is added to the gradient in float.
  SIMCLR_DEVICE bool clears(int i, int j) const {
    if (!block_.counts(p_.pairing, i, j)) return true;
    SIMCLR_UNROLL
    for (int k = 0; k < Pairing::kMaxShifts; ++k) {
      if (k >= p_.pairing.shifts || j != i + to_int(p_.pairing.shift[k])) continue;
      if (positive_weight(p_, i, j).replaces) return true;
    }
    return false;
  }

  const BackwardParams& p_;
  const WideBlock& block_;
  bool is_special_;
  float scale_;
};

class WideSigmoidWeights {
 public:
  SIMCLR_DEVICE WideSigmoidWeights(const BackwardParams& p, const SigmoidScalars& scalars,
                                   const WideBlock& block)
      : p_(p),
        block_(block),
        exponents_(sigmoid_exponents(scalars)),
        is_special_(block.is_special(p.pairing)) {}

  SIMCLR_DEVICE WideTerms terms(int i) const {
    return {p_.rows.factor[i], p_.terms.weight[i], 0.0f};
  }

  // The same of the sigmoid loss; positives are 0, since they are added to the gradient in float.
  SIMCLR_DEVICE float weight(float s, int i, const WideTerms& row, int j,
                             const WideTerms& column) const {
    if (is_special_ && p_.pairing.positive(i, j)) return 0.0f;
    const float x = s * (exponents_.scale * row.factor) * column.factor + exponents_.bias;
    return sigmoid(x) * (row.weight + column.weight) * row.factor * column.factor;
  }

 private:
  const BackwardParams& p_;
  const WideBlock& block_;
  SigmoidExponents exponents_;
  bool is_special_;
};

// Weights: WidePairWeights or WideSigmoidWeights. w may be the memory of the products.
template <typename Element, typename Weights>
SIMCLR_DEVICE void write_weights(const WideBlock& block, const Weights& weights, void* w) {
  using Storage = typename Element::Storage;
  WidePairs s;
  block.load(s);
  WideTerms columns[WideShape::kLaneColumns];
  SIMCLR_UNROLL
  for (int e = 0; e < WideShape::kLaneColumns; ++e) {
    const int j = block.column(e);
    columns[e] = block.has_column(j) ? weights.terms(j) : WideTerms{0.0f, 0.0f, 0.0f};
  }
  SIMCLR_UNROLL
  for (int r = 0; r < WideShape::kWarpRows; ++r) {
    const int i = block.row(r);
    if (!block.has_row(i)) return;
    const WideTerms row = weights.terms(i);
    WideUnit<Storage> unit;
    SIMCLR_UNROLL
    for (int e = 0; e < WideShape::kLaneColumns; ++e) {
      unit.element[e] =
          Element::operand(weights.weight(s[r][e], i, row, block.column(e), columns[e]));
    }
    block.store(static_cast<Storage*>(w), r, unit);
  }
}

template <typename Element, bool kSharedShift, bool kLabels>
SIMCLR_KERNEL(kWideThreads, 2)
void wide_weights_kernel(const WideWeightsParams p) {
  const WideBlock block(p.tile);
  write_weights<Element>(block, WidePairWeights<kSharedShift, kLabels>(p.pass, block), p.w);
}

template <typename Element>
SIMCLR_KERNEL(kWideThreads, 2)
void wide_sigmoid_weights_kernel(const WideSigmoidWeightsParams p) {
  const WideBlock block(p.pass.tile);
  write_weights<Element>(block, WideSigmoidWeights(p.pass.pass, p.scalars, block), p.pass.w);
}

}  // namespace simclr::fused
