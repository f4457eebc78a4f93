// Gradients of sum_i g_i loss_i + h_i lse_i, with recomputed tiles of S: dL/dz_i = sum_j W_ij z_j,
// W as in pair_weights.cuh.
//
// A block owns kRows rows and visits all columns. The rows' gradient stays in the registers of the
// block that owns them: no atomics, and the same bits every time. Columns get their gradient as the
// rows of the transposed problem. Positives by shifts, the largest terms, are added in float. Then
// the normalization is undone and the temperature's gradient computed:
// dL/dT = -1/T sum_i z_i . dL/dz_i over the rows, and half of that if the rows are also columns.

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/sigmoid_weights.cuh"

namespace simclr::fused {

// Weights: PairWeights or SigmoidWeights.
template <typename C, typename Weights>
class BackwardBlock {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE BackwardBlock(const BackwardParams& p, const Arguments&... of_weights)
      : p_(p),
        weights_(p, of_weights...),
        first_row_(to_int(p.problem.rows.begin) + block_id() * C::kRows),
        end_row_(to_int(p.problem.rows.end)) {}

  SIMCLR_DEVICE void run() {
    const auto loop = weights_.main_loop();
    loop.start(first_row_, end_row_);
    weights_.load_rows(first_row_, end_row_);
    clear_gradient();
    loop.for_each_column_tile([&](int stage, int column) {
      float w[C::kRowTiles][C::kColumnTiles][4];
      multiply_rows<C>(w, kRowsOffset, stage_tile<C>(stage));
      weights_.apply(w, stage, column);
      multiply_weights<C>(grad_, w, stage_tile<C>(stage));
    });
    share_gradient();
    for (int row = opaque(warp_id()); row < C::kRows; row += C::kWarps) {
      const int i = first_row_ + row;
      if (i < end_row_) finish_row(i, 4 * row * C::kDim);
    }
  }

 private:
  using Storage = typename C::Storage;

  SIMCLR_DEVICE void clear_gradient() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int d = 0; d < C::kDim / 8; ++d) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) grad_[m][d][e] = 0.0f;
      }
    }
  }

  // From the accumulators, in which a row is spread over lanes, to the beginning of shared memory,
  // [kRows, kDim].
  SIMCLR_DEVICE void share_gradient() {
    sync_threads();  // the tiles that lie there may still be read
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int d = 0; d < C::kDim / 8; ++d) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          shared_store(4 * row_of<C>(m, e) * C::kDim, column_of(d, e), grad_[m][d][e]);
        }
      }
    }
    sync_threads();
  }

  SIMCLR_DEVICE const Storage* row(int i) const {
    return static_cast<const Storage*>(p_.rows.z) + int64_t{i} * p_.rows.stride;
  }

  // A positive of a row by a shift: its row, and the missing part of its weight over `scale`, times
  // its factor.
  struct Positive {
    const Storage* row;
    float weight;
  };
  SIMCLR_DEVICE Positive positive_of(int i, int k) const {
    if (k >= p_.pairing.shifts) return {row(i), 0.0f};
    const int64_t j = i + p_.pairing.shift[k];
    if (!p_.problem.columns.contains(j)) return {row(i), 0.0f};
    const int column = to_int(j);
    return {row(column), weights_.positive(i, column) * p_.rows.factor[column]};
  }

  // Adds the positives to the gradient of row i, undoes the normalization and stores it. Called by
  // a whole warp.
  SIMCLR_DEVICE void finish_row(int i, int grad) {
    using Element = typename C::Element;
    const Positive positives[] = {positive_of(i, 0), positive_of(i, 1)};
    static_assert(Pairing::kMaxShifts == 2);
    const float factor = p_.rows.factor[i];
    const float inv_gain = exp2i(-gain_exponent(*p_.terms.max_grad));
    const float scale = weights_.scale();

    float radial = 0.0f;
    for (int k = lane_id(); k < p_.rows.dim; k += 32) {
      float sum = shared_load(grad, k) * inv_gain;
      for (const Positive& positive : positives) {
        sum += positive.weight * Element::widen(positive.row[k]);
      }
      shared_store(grad, k, scale * sum);
      radial += scale * sum * factor * Element::widen(row(i)[k]);
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) radial += shuffle_xor(radial, lanes);

    const float inv_norm = p_.inv_norm == nullptr ? 1.0f : p_.inv_norm[i];
    // A row that was divided by eps was only scaled: nothing to project out.
    const bool projected = p_.inv_norm != nullptr && inv_norm < p_.inv_eps;
    const float along = projected ? radial * factor : 0.0f;
    const int place = i - to_int(p_.problem.rows.begin);
    Storage* out = static_cast<Storage*>(p_.grad) + int64_t{place} * p_.rows.dim;
    for (int k = lane_id(); k < p_.rows.dim; k += 32) {
      const float value = shared_load(grad, k) - along * Element::widen(row(i)[k]);
      out[k] = Element::result(value * inv_norm);
    }
    if (lane_id() == 0) p_.radial[place] = radial;
  }

  const BackwardParams& p_;
  Weights weights_;
  int first_row_;
  int end_row_;
  float grad_[C::kRowTiles][C::kDim / 8][4];
};

template <typename C, bool kSharedShift, bool kLabels>
SIMCLR_KERNEL(C::kThreads, 2)
void backward_kernel(const BackwardParams p) {
  static_assert(!(kSharedShift && kLabels));
  BackwardBlock<C, PairWeights<C, kSharedShift, kLabels>>(p).run();
}

template <typename C>
SIMCLR_KERNEL(C::kThreads, 2)
void sigmoid_backward_kernel(const SigmoidBackwardParams p) {
  BackwardBlock<C, SigmoidWeights<C>>(p.pass, p.scalars).run();
}

}  // namespace simclr::fused
