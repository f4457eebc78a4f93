// Gradients of sum_i g_i loss_i, with the tiles of S computed again:
//
//   dL/dz_i = sum_{j != i, p(i)} W_ij z_j + W_ip z_p,   T W_ij = w_i 2^(x_ij - shift_i) +
//                                                                w_j 2^(x_ij - shift_j)
//
// A block owns kRows rows and visits all columns. The rows' gradient stays in registers, and only
// the block that owns it ever touches it: no atomics, and the same bits every time. The positives,
// the largest terms, are added as floats. Then the normalisation is undone and the temperature's
// share taken: dL/dT = -1/(2T) sum_i z_i . dL/dz_i.

#pragma once

#include "cuda/rows.cuh"
#include "cuda/tile.cuh"

namespace simclr::fused {

template <typename C, bool kSharedShift>
class BackwardBlock {
 public:
  explicit SIMCLR_DEVICE BackwardBlock(const BackwardParams& p)
      : p_(p), first_row_(p.first_row + block_id() * C::kRows) {}

  SIMCLR_DEVICE void run() {
    copy_tile_async<C, C::kRows>(kRowsOffset, p_.rows, first_row_);
    copy_columns_async(0, 0);
    load_row_terms();
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int d = 0; d < C::kDim / 8; ++d) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) grad_[m][d][e] = 0.0f;
      }
    }
    int stage = 0;
    for (int column = 0; column < p_.rows.count; column += C::kColumns) {
      copy_async_wait<0>();
      // Barrier: this stage is full for all threads, and all are done with the other one.
      sync_threads();
      if (column + C::kColumns < p_.rows.count) {
        copy_columns_async(stage ^ 1, column + C::kColumns);
      }
      visit_tile(stage, column);
      stage ^= 1;
    }
    share_gradient();
    for (int row = opaque(warp_id()); row < C::kRows; row += C::kWarps) {
      const int i = first_row_ + row;
      if (i < p_.end_row) finish_row(i, 4 * row * C::kDim);
    }
  }

 private:
  SIMCLR_DEVICE void copy_columns_async(int stage, int column) {
    copy_tile_async<C, C::kColumns>(stage_tile<C>(stage), p_.rows, column);
    const int count = p_.rows.count;
    copy_terms_async<C>(stage_terms<C>(stage, 0), p_.rows.factor, column, count);
    copy_terms_async<C>(stage_terms<C>(stage, 1), p_.weight, column, count);
    if constexpr (!kSharedShift) {
      copy_terms_async<C>(stage_terms<C>(stage, 2), p_.row_shift, column, count);
    }
    copy_async_commit();
  }

  SIMCLR_DEVICE void load_row_terms() {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = first_row_ + row_of<C>(m, 2 * half);
        const bool inside = i < p_.rows.count;
        row_scale_[m][half] = inside ? p_.scale * p_.rows.factor[i] : 0.0f;
        row_weight_[m][half] = inside ? p_.weight[i] : 0.0f;
        if constexpr (!kSharedShift) row_shift_[m][half] = inside ? p_.row_shift[i] : 0.0f;
      }
    }
  }

  SIMCLR_DEVICE void visit_tile(int stage, int first_column) {
    float w[C::kRowTiles][C::kColumnTiles][4];
    multiply_rows<C>(w, kRowsOffset, stage_tile<C>(stage));
    SIMCLR_UNROLL
    for (int n = 0; n < C::kColumnTiles; ++n) weigh_columns(w, stage, n);
    if (is_special(first_column)) clear_special(w, first_column);
    multiply_weights<C>(grad_, w, stage_tile<C>(stage));
  }

  // Turns similarities into weights, times the columns' factors: what multiplies stored rows.
  SIMCLR_DEVICE void weigh_columns(float (&w)[C::kRowTiles][C::kColumnTiles][4], int stage, int n) {
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
        const float x = w[m][n][e] * row_scale_[m][e / 2] * factor[e % 2];
        float sum;
        if constexpr (kSharedShift) {  // one power serves both
          sum = exp2_fast(x - p_.shift) * (row_weight_[m][e / 2] + weight[e % 2]);
        } else {
          sum = softmax(x - row_shift_[m][e / 2]) * row_weight_[m][e / 2] +
                softmax(x - shift[e % 2]) * weight[e % 2];
        }
        w[m][n][e] = sum * factor[e % 2];
      }
    }
  }

  // P_ij of a logarithm that is 0 at most, but for pairs that do not count: theirs may be anything,
  // and infinity times the weight 0 is not 0.
  static SIMCLR_DEVICE float softmax(float exponent) { return exp2_fast(fminf(exponent, 0.0f)); }

  // Whether the tile holds positives, or rows that meet themselves. What lies outside of the matrix
  // needs no care: its columns have weight 0 and rows of zeros, and its rows are not stored.
  SIMCLR_DEVICE bool is_special(int first_column) const {
    const int n = p_.rows.pairs;
    return meets(first_column, 0) || meets(first_column, n) || meets(first_column, -n);
  }
  SIMCLR_DEVICE bool meets(int first_column, int distance) const {
    return first_column < first_row_ + distance + C::kRows &&
           first_row_ + distance < first_column + C::kColumns;
  }

  SIMCLR_DEVICE void clear_special(float (&w)[C::kRowTiles][C::kColumnTiles][4], int first_column) {
    const int below = first_column - first_row_;
    const int self = within_tile(below);
    const int positives[2] = {within_tile(below - p_.rows.pairs),
                              within_tile(below + p_.rows.pairs)};
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) {
          const int distance = row_of<C>(m, e) - column_of(n, e);
          if (distance == self || distance == positives[0] || distance == positives[1]) {
            w[m][n][e] = 0.0f;
          }
        }
      }
    }
  }
  // A distance of rows of the matrix, or if it is too large for a tile, one that no tile has.
  static SIMCLR_DEVICE int within_tile(int distance) {
    constexpr int kFar = C::kRows + C::kColumns;
    return distance > -kFar && distance < kFar ? distance : kFar;
  }

  // From the accumulators, which nobody can walk along a row of, to the beginning of shared
  // memory, [kRows, kDim].
  SIMCLR_DEVICE void share_gradient() {
    static_assert(C::kRows * C::kDim * 4 <= C::kSharedBytes);
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

  // Adds the positive to the gradient of row i, undoes the normalisation and stores it: a warp's
  // work.
  SIMCLR_DEVICE void finish_row(int i, int grad) {
    using Element = typename C::Element;
    using Storage = typename C::Storage;
    const Rows& rows = p_.rows;
    const int p = i < rows.pairs ? i + rows.pairs : i - rows.pairs;
    const Storage* row = static_cast<const Storage*>(rows.z) + int64_t{i} * rows.stride;
    const Storage* positive = static_cast<const Storage*>(rows.z) + int64_t{p} * rows.stride;
    const float factor = rows.factor[i];
    const float positive_weight = p_.positive_weight[i < p ? i : p] * rows.factor[p];
    const float inv_gain = exp2i(-gain_exponent(*p_.max_grad));
    const float inv_t = p_.scale * static_cast<float>(kLn2);

    float radial = 0.0f;
    for (int k = lane_id(); k < rows.dim; k += 32) {
      const float sum = shared_load(grad, k) * inv_gain;
      const float value = inv_t * (sum + positive_weight * Element::widen(positive[k]));
      shared_store(grad, k, value);
      radial += value * factor * Element::widen(row[k]);
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) radial += shuffle_xor(radial, lanes);

    const float inv_norm = p_.inv_norm == nullptr ? 1.0f : p_.inv_norm[i];
    // Where eps stood for the norm, the row was only scaled: nothing to project out.
    const bool projected = p_.inv_norm != nullptr && !(inv_norm < 0.0f);
    const float along = projected ? radial * factor : 0.0f;
    Storage* out = static_cast<Storage*>(p_.grad) + int64_t{i - p_.first_row} * rows.dim;
    for (int k = lane_id(); k < rows.dim; k += 32) {
      const float value = shared_load(grad, k) - along * Element::widen(row[k]);
      out[k] = Element::result(value * fabsf(inv_norm));
    }
    if (lane_id() == 0) p_.radial[i - p_.first_row] = radial;
  }

  const BackwardParams& p_;
  int first_row_;
  float row_scale_[C::kRowTiles][2];
  float row_weight_[C::kRowTiles][2];
  float row_shift_[C::kRowTiles][2];  // only where it is not shared
  float grad_[C::kRowTiles][C::kDim / 8][4];
};

template <typename C, bool kSharedShift>
SIMCLR_KERNEL(C::kThreads, 2)
void backward_kernel(const BackwardParams p) {
  BackwardBlock<C, kSharedShift>(p).run();
}

}  // namespace simclr::fused
