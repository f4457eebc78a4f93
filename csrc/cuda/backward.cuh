// Gradients of sum_i g_i loss_i + h_i lse_i, with recomputed tiles of S: dL/dz_i = sum_j W_ij z_j,
// W as in pair_weights.cuh.
//
// A block owns kRows rows and a strip of columns, which it visits tile by tile. The rows' partial
// gradient stays in its registers, and is stored once: no atomics, and every partial gradient has
// one writer. gradient.cuh adds those of the strips. Columns get their gradient as the rows of the
// transposed problem, whose blocks follow.

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/sigmoid_weights.cuh"
#include "cuda/vectors.cuh"

namespace simclr::fused {

// How many blocks have rows of a side.
template <typename C>
constexpr int64_t backward_blocks(const BackwardParams& p, bool transposed) {
  const PartialGradients& side = p.gradients_of(transposed);
  return divide_up(side.rows.size(), C::kRows) * side.strips.count;
}

// The rows of a block, from first_row on, and the strip of the columns that it visits.
struct BackwardPlace {
  bool transposed;
  int first_row;
  int strip;
};
template <typename C>
SIMCLR_DEVICE BackwardPlace backward_place(const BackwardParams& p, int block) {
  const int blocks = to_int(backward_blocks<C>(p, false));
  const bool transposed = block >= blocks;
  if (transposed) block -= blocks;
  const PartialGradients& side = p.gradients_of(transposed);
  const int strips = side.strips.count;
  const int first_row = to_int(side.rows.begin) + block / strips * C::kRows;
  return {transposed, first_row, block % strips};
}

// Weights: PairWeights or SigmoidWeights.
template <typename C, typename Weights>
class BackwardBlock {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE BackwardBlock(const BackwardParams& p, const Arguments&... of_weights)
      : p_(p), weights_(p, of_weights...) {}

  SIMCLR_DEVICE void run() {
    const auto [transposed, first_row, strip] = backward_place<C>(p_, block_id());
    const Range columns = problem_of_side(p_.problem, transposed).columns;
    const int size = p_.gradients_of(transposed).strips.size;
    const int first_column = to_int(columns.begin) + strip * size;
    const int end_column = first_column + size;
    const int end = to_int(columns.end);
    const auto loop = weights_.main_loop(first_column, end_column < end ? end_column : end);
    const int end_row = to_int(p_.gradients_of(transposed).rows.end);
    loop.start(first_row, end_row);
    weights_.load_rows(first_row, end_row);
    clear_gradient();
    loop.for_each_column_tile([&](int stage, int column) {
      float w[C::kRowTiles][C::kColumnTiles][4];
      multiply_rows<C>(w, LoadedRows<C>(kRowsOffset), stage_tile<C>(stage));
      weights_.apply(w, stage, column);
      multiply_weights<C>(grad_, w, stage_tile<C>(stage));
    });
    store_gradient();
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
  SIMCLR_DEVICE void store_gradient() const {
    // Computed anew, since the loop has no registers to keep it.
    const auto [transposed, first_row, strip] = backward_place<C>(p_, opaque(block_id()));
    const int thread = opaque(thread_id());
    const PartialGradients& side = p_.gradients_of(transposed);
    const Range rows = side.rows;
    const int stride = p_.rows.stride;
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int row = row_of<C>(m, 2 * half, thread);
        if (first_row + row >= to_int(rows.end)) continue;
        const int64_t place = strip * rows.size() + first_row - rows.begin + row;
        float* partial = side.partial + place * stride;
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
