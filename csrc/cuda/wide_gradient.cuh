// The gradient of wide rows from the sums of their weighted columns, a warp for each row: adds
// positives by shifts, the largest terms, in float, and undoes the normalization.

#pragma once

#include "cuda/pair_weights.cuh"
#include "cuda/radial_sum.cuh"
#include "cuda/sigmoid_weights.cuh"
#include "cuda/wide_rows.cuh"

namespace simclr::fused {

// Positives: PairPositives or SigmoidPositives.
template <typename Element, typename Positives>
class WideGradient {
 public:
  SIMCLR_DEVICE WideGradient(const WideGradientParams& params, const Positives& positives)
      : p_(params.pass),
        positives_(positives),
        place_(block_id() * kWideRowsPerBlock + warp_id()),
        i_(to_int(p_.wanted.begin) + place_),
        transposed_(is_transposed(p_.problem, i_)),
        sum_(params.sum + int64_t{place_} * p_.rows.stride) {}

  SIMCLR_DEVICE void run() {
    if (place_ >= p_.wanted.size()) return;
    float radial = complete_sum();
    for (int lanes = 16; lanes >= 1; lanes /= 2) radial += shuffle_xor(radial, lanes);
    const float inv_norm = p_.inv_norm == nullptr ? 1.0f : p_.inv_norm[i_];
    // A row that was divided by eps was only scaled: nothing to project out.
    const bool projected = p_.inv_norm != nullptr && inv_norm < p_.inv_eps;
    const float along = projected ? radial * p_.rows.factor[i_] : 0.0f;
    auto* out = static_cast<Storage*>(p_.grad) + int64_t{place_} * p_.rows.dim;
    for (int k = lane_id(); k < p_.rows.dim; k += 32) {
      out[k] = Element::result((sum_[k] - along * Element::widen(row(i_)[k])) * inv_norm);
    }
    if (lane_id() == 0) p_.radial[place_] = radial;
  }

 private:
  using Storage = typename Element::Storage;

  SIMCLR_DEVICE const Storage* row(int i) const {
    return static_cast<const Storage*>(p_.rows.z) + int64_t{i} * p_.rows.stride;
  }

  // A positive by a shift, and the missing part of its weight times its factor.
  struct Positive {
    const Storage* row;
    float weight;
  };
  SIMCLR_DEVICE Positive positive_of(int k) const {
    if (k >= p_.pairing.shifts) return {row(i_), 0.0f};
    const int64_t j = i_ + pairing_of_side(p_.pairing, transposed_).shift[k];
    if (!problem_of_side(p_.problem, transposed_).columns.contains(j)) return {row(i_), 0.0f};
    const int column = to_int(j);
    float similarity = 0.0f;
    if constexpr (Positives::kTakesSimilarity) similarity = similarity_to(column);
    return {row(column), positives_.weight(i_, column, similarity) * p_.rows.factor[column]};
  }
  SIMCLR_DEVICE float similarity_to(int column) const {
    float product = 0.0f;
    for (int k = lane_id(); k < p_.rows.dim; k += 32) {
      product += Element::widen(row(i_)[k]) * Element::widen(row(column)[k]);
    }
    for (int lanes = 16; lanes >= 1; lanes /= 2) product += shuffle_xor(product, lanes);
    return product * p_.rows.factor[i_] * p_.rows.factor[column];
  }

  // Turns the row's sum into dL/dz_i; returns this lane's part of z_i . dL/dz_i.
  SIMCLR_DEVICE float complete_sum() const {
    const Positive positives[] = {positive_of(0), positive_of(1)};
    static_assert(Pairing::kMaxShifts == 2);
    const float factor = p_.rows.factor[i_];
    const float of_sum = exp2i(-gain_exponent(*p_.terms.max_grad)) / factor;
    const float scale = positives_.scale();
    float radial = 0.0f;
    for (int k = lane_id(); k < p_.rows.dim; k += 32) {
      float sum = sum_[k] * of_sum;
      for (const Positive& positive : positives) {
        sum += positive.weight * Element::widen(positive.row[k]);
      }
      sum_[k] = scale * sum;
      radial += scale * sum * factor * Element::widen(row(i_)[k]);
    }
    return radial;
  }

  const BackwardParams& p_;
  const Positives& positives_;
  int place_;  // among the wanted rows
  int i_;
  bool transposed_;
  float* sum_;
};

template <typename Element>
SIMCLR_KERNEL(kRowThreads, 4)
void wide_gradient_kernel(const WideGradientParams p) {
  WideGradient<Element, PairPositives>(p, PairPositives(p.pass)).run();
  sum_radial_parts(p.pass.sum);
}

template <typename Element>
SIMCLR_KERNEL(kRowThreads, 4)
void wide_sigmoid_gradient_kernel(const WideSigmoidGradientParams p) {
  const SigmoidPositives positives(p.pass.pass, p.scalars);
  WideGradient<Element, SigmoidPositives>(p.pass, positives).run();
  sum_radial_parts(p.pass.pass.sum);
}

}  // namespace simclr::fused
