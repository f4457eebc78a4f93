// Per row of a tile in device memory: the sum of the sigmoid losses of its pairs, and of their
// derivatives by the bias.

#pragma once

#include "cuda/sigmoid.cuh"
#include "cuda/wide_lanes.cuh"

namespace simclr::fused {

class WideSigmoidSums : WideShape {
 public:
  static constexpr bool kSumsPositives = false;
  static constexpr int kSharedBytes = 0;

  explicit SIMCLR_DEVICE WideSigmoidSums(const WideSigmoidForwardParams& p)
      : p_(p), exponents_(sigmoid_exponents(p.scalars)) {}

  SIMCLR_DEVICE float scale() const { return exponents_.scale; }
  SIMCLR_DEVICE float shift() const { return -exponents_.bias; }

  SIMCLR_DEVICE void add_positives(const WidePairs&, const WideBlock&) const {}

  // Adds exponents. Positives, and pairs outside of the matrix, are -infinity.
  SIMCLR_DEVICE void add(const WidePairs& x, const WideBlock& block) const {
    if (!block.has_row(block.row(0))) return;
    Part rows[kWarpRows];
    SIMCLR_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      rows[r] = {{0.0f, 0.0f}};
      SIMCLR_UNROLL
      for (int e = 0; e < kLaneColumns; ++e) rows[r].join({pair_sigmoid(x[r][e])});
    }
    const Part row = join_lanes(rows);
    const int64_t place = row_place(p_.pass.pass.problem, block);
    if (place < 0) return;
    owned(p_.pass.rows.sum + place) += row.sum.loss;
    p_.sigmoid_sum[place] += row.sum.sigmoid;
  }

 private:
  struct Part {
    PairSigmoid sum;
    SIMCLR_DEVICE Part of_lane(int lanes) const {
      return {{shuffle_xor(sum.loss, lanes), shuffle_xor(sum.sigmoid, lanes)}};
    }
    SIMCLR_DEVICE void join(const Part& other) {
      sum.loss += other.sum.loss;
      sum.sigmoid += other.sum.sigmoid;
    }
  };

  const WideSigmoidForwardParams& p_;
  SigmoidExponents exponents_;
};

}  // namespace simclr::fused
