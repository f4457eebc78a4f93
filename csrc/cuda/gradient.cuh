// The end of the backward pass: the partial gradients of a row, one per strip of columns, become
// the gradient of the raw row.
//
// They are added in the order of the strips: the same bits every time. Positives by shifts, the
// largest terms, are added in float. Then the normalization is undone and the temperature's
// gradient computed: dL/dT = -1/T sum_i z_i . dL/dz_i over the rows, and half of that if the rows
// are also columns. The block that ends last adds these parts, in a fixed order too.

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/radial_sum.cuh"
#include "cuda/sigmoid_weights.cuh"
#include "cuda/vectors.cuh"

namespace simclr::fused {

// How many lanes share a row, and how many rows a block has.
template <int kDim>
constexpr int kGradientLanes = kDim < 128 ? kDim / 4 : 32;
template <int kDim>
constexpr int kGradientRows = kRowThreads / kGradientLanes<kDim>;

// Positives: PairPositives or SigmoidPositives.
template <typename Element, int kDim, typename Positives>
class RowGradient {
 public:
  template <typename... Arguments>
  explicit SIMCLR_DEVICE RowGradient(const BackwardParams& p, const Arguments&... of_positives)
      : p_(p),
        positives_(p, of_positives...),
        place_(block_id() * kGradientRows<kDim> + thread_id() / kLanes),
        inside_(place_ < p.wanted.size()) {
    if (!inside_) place_ = 0;  // so that its lanes take part in the sums over others'
    i_ = to_int(p.wanted.begin) + place_;
  }

  SIMCLR_DEVICE void run() {
    Part row;
    load_row(row, i_);
    Part sum;
    add_partial_gradients(sum);
    for (int k = 0; k < Pairing::kMaxShifts; ++k) {
      if (k < p_.pairing.shifts) add_positive(sum, row, k);
    }
    finish(sum, row);
  }

 private:
  using Storage = typename Element::Storage;
  static constexpr int kLanes = kGradientLanes<kDim>;
  // Each lane has kVectors times four adjacent elements of a row.
  static constexpr int kVectors = kDim / (4 * kLanes);
  using Part = float[kVectors][4];

  static SIMCLR_DEVICE int column(int v) { return 4 * (thread_id() % kLanes + v * kLanes); }

  static SIMCLR_DEVICE float sum_of_lanes(float value) {
    for (int lanes = kLanes / 2; lanes >= 1; lanes /= 2) value += shuffle_xor(value, lanes);
    return value;
  }

  // Row i of z. What is past its end is zero.
  SIMCLR_DEVICE void load_row(Part& row, int i) const {
    const Storage* stored = static_cast<const Storage*>(p_.rows.z) + int64_t{i} * p_.rows.stride;
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const bool there = column(v) < p_.rows.stride;
      const auto part = there ? load_vector<4>(stored + column(v)) : Vector<Storage, 4>{};
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) row[v][e] = Element::widen(part.element[e]);
    }
  }

  SIMCLR_DEVICE void add_partial_gradients(Part& sum) const {
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) sum[v][e] = 0.0f;
    }
    const bool transposed = is_transposed(p_.problem, i_);
    const PartialGradients& side = p_.gradients_of(transposed);
    const int strips = side.strips.count;
    const float* partial = side.partial + (i_ - side.rows.begin) * p_.rows.stride;
    const int64_t next = side.rows.size() * p_.rows.stride;
    SIMCLR_UNROLL_8  // loads that do not wait for each other
        for (int strip = 0; strip < strips; ++strip) {
      SIMCLR_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        if (column(v) >= p_.rows.stride) continue;
        const auto part = load_vector<4>(partial + strip * next + column(v));
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) sum[v][e] += part.element[e];
      }
    }
    const float inv_gain = exp2i(-gain_exponent(*p_.terms.max_grad));
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) sum[v][e] *= inv_gain;
    }
  }

  // Adds the missing part of the weight of row i's positive by a shift, over `scale`. Lanes of a
  // row that lacks it do the same with weight 0: other rows of the warp may have theirs.
  SIMCLR_DEVICE void add_positive(Part& sum, const Part& row, int k) const {
    const bool transposed = is_transposed(p_.problem, i_);
    const int64_t j = i_ + pairing_of_side(p_.pairing, transposed).shift[k];
    const bool there = problem_of_side(p_.problem, transposed).columns.contains(j);
    const int positive = there ? to_int(j) : i_;
    Part other;
    load_row(other, positive);
    const float factor = p_.rows.factor[positive];
    float similarity = 0.0f;
    if constexpr (Positives::kTakesSimilarity) {
      SIMCLR_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) similarity += row[v][e] * other[v][e];
      }
      similarity = sum_of_lanes(similarity) * p_.rows.factor[i_] * factor;
    }
    const float weight = there ? positives_.weight(i_, positive, similarity) * factor : 0.0f;
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) sum[v][e] += weight * other[v][e];
    }
  }

  // Undoes the normalization and stores the gradient.
  SIMCLR_DEVICE void finish(Part& sum, const Part& row) const {
    const float factor = p_.rows.factor[i_];
    const float scale = positives_.scale();
    float radial = 0.0f;
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) {
        sum[v][e] *= scale;
        radial += sum[v][e] * factor * row[v][e];
      }
    }
    radial = sum_of_lanes(radial);
    if (!inside_) return;
    if (thread_id() % kLanes == 0) p_.radial[place_] = radial;

    const float inv_norm = p_.inv_norm == nullptr ? 1.0f : p_.inv_norm[i_];
    // A row that was divided by eps was only scaled: nothing to project out.
    const bool projected = p_.inv_norm != nullptr && inv_norm < p_.inv_eps;
    const float along = projected ? radial * factor : 0.0f;
    SIMCLR_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      Vector<Storage, 4> gradient;
      SIMCLR_UNROLL
      for (int e = 0; e < 4; ++e) {
        gradient.element[e] = Element::result((sum[v][e] - along * row[v][e]) * inv_norm);
      }
      store(gradient, column(v));
    }
  }

  // The result's rows are not padded: if D is no multiple of four, they are not aligned.
  SIMCLR_DEVICE void store(const Vector<Storage, 4>& gradient, int first) const {
    Storage* out = static_cast<Storage*>(p_.grad) + int64_t{place_} * p_.rows.dim + first;
    if (p_.rows.dim % 4 == 0) {
      if (first < p_.rows.dim) store_vector<4>(out, gradient);
      return;
    }
    SIMCLR_UNROLL
    for (int e = 0; e < 4; ++e) {
      if (first + e < p_.rows.dim) out[e] = gradient.element[e];
    }
  }

  const BackwardParams& p_;
  Positives positives_;
  int place_;  // of the row among those that are wanted
  bool inside_;
  int i_;  // the row of z
};

// Blocks on a multiprocessor: many, since they wait for memory, but each has registers for eight
// strips at once and, for the sigmoid loss, for the weights of positives.
template <int kDim>
constexpr int kGradientBlocks = kDim <= 128 ? 6 : 4;

template <typename Element, int kDim>
SIMCLR_KERNEL(kRowThreads, kGradientBlocks<kDim>)
void gradient_kernel(const BackwardParams p) {
  RowGradient<Element, kDim, PairPositives>(p).run();
  sum_radial_parts(p.sum);
}

template <typename Element, int kDim>
SIMCLR_KERNEL(kRowThreads, kGradientBlocks<kDim>)
void sigmoid_gradient_kernel(const SigmoidBackwardParams p) {
  RowGradient<Element, kDim, SigmoidPositives>(p.pass, p.scalars).run();
  sum_radial_parts(p.pass.sum);
}

}  // namespace simclr::fused
