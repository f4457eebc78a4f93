// Gradients of sum_i g_i loss_i + h_i lse_i, with recomputed tiles of S: dL/dz_i = sum_j W_ij z_j,
// W as in pair_weights.cuh.
//
// A block owns kRows rows and a strip of columns, which it visits tile by tile. The rows' partial
// gradient stays in its registers, and is stored once: no atomics, and every partial gradient has
// one writer. gradient.cuh adds those of the strips. Columns get their gradient as the rows of the
// transposed problem.

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/sigmoid_weights.cuh"
#include "cuda/vectors.cuh"

namespace simclr::fused {

// Weights: PairWeights or SigmoidWeights.
template <typename C, typename Weights>
class BackwardBlock {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE BackwardBlock(const BackwardParams& p, const Arguments&... of_weights)
      : p_(p),
        weights_(p, of_weights...),
        first_row_(to_int(p.problem.rows.begin) + block_id() / p.strips.count * C::kRows),
        end_row_(to_int(p.problem.rows.end)) {}

  SIMCLR_DEVICE void run() {
    const int end = to_int(p_.problem.columns.end);
    const int strip = block_id() % p_.strips.count;
    const int first_column = to_int(p_.problem.columns.begin) + strip * p_.strips.size;
    const int end_column = first_column + p_.strips.size;
    const auto loop = weights_.main_loop(first_column, end_column < end ? end_column : end);
    loop.start(first_row_, end_row_);
    weights_.load_rows(first_row_, end_row_);
    clear_gradient();
    loop.for_each_column_tile([&](int stage, int column) {
      float w[C::kRowTiles][C::kColumnTiles][4];
      multiply_rows<C>(w, kRowsOffset, stage_tile<C>(stage));
      weights_.apply(w, stage, column);
      multiply_weights<C>(grad_, w, stage_tile<C>(stage));
    });
    store_gradient(opaque(block_id()) % p_.strips.count);  // the loop has no register for the strip
  }

 private:
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

  // From the accumulators, in which four lanes have 32 adjacent bytes of a row.
  SIMCLR_DEVICE void store_gradient(int strip) const {
    const int stride = p_.rows.stride;
    // So that no row's number is kept during the loop.
    const int first_row = opaque(first_row_);
    const int thread = opaque(thread_id());
    const int first = first_row - to_int(p_.problem.rows.begin);
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row_of<C>(m, 2 * half, thread);
        if (first_row + row >= end_row_) continue;
        const int64_t place = strip * p_.problem.rows.size() + first + row;
        float* partial = p_.partial + place * stride;
        SIMCLR_UNROLL
        for (int d = 0; d < C::kDim / 8; ++d) {
          if (column_of(d, 0) >= stride) continue;
          store_vector<2>(partial + column_of(d, 0),
                          {grad_[m][d][2 * half], grad_[m][d][2 * half + 1]});
        }
      }
    }
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
  if (!is_chosen(p.exponents)) return;
  BackwardBlock<C, PairWeights<C, kSharedShift, kLabels>>(p).run();
}

template <typename C>
SIMCLR_KERNEL(C::kThreads, 2)
void sigmoid_backward_kernel(const SigmoidBackwardParams p) {
  BackwardBlock<C, SigmoidWeights<C>>(p.pass, p.scalars).run();
}

}  // namespace simclr::fused
