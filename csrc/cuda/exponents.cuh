// What the temperature makes of similarities, and which kernels run for it.

#pragma once

#include <numbers>

#include "cuda/device.cuh"
#include "cuda/params.h"

namespace simclr::fused {

SIMCLR_DEVICE double value_of(const Scalar& scalar) {
  return scalar.address == nullptr ? scalar.value : *scalar.address;
}

// NaN if the value is out of range.
SIMCLR_DEVICE double checked_value_of(const Scalar& scalar) {
  const double value = value_of(scalar);
  return value >= kSmallestScale && value <= kLargestScale ? value : NAN;
}

// By the first kernel of a pass.
SIMCLR_DEVICE float compute_scale(const Exponents& exponents) {
  if (exponents.stored_scale == nullptr) return exponents.known_scale;
  return static_cast<float>(std::numbers::log2e / checked_value_of(exponents.temperature));
}
SIMCLR_DEVICE void store_scale(const Exponents& exponents) {
  if (exponents.stored_scale != nullptr) *exponents.stored_scale = compute_scale(exponents);
}

// By all others.
SIMCLR_DEVICE float scale_of(const Exponents& exponents) {
  return exponents.stored_scale == nullptr ? exponents.known_scale : *exponents.stored_scale;
}

// Whether the shift is shared, where both kinds of kernels are launched.
SIMCLR_DEVICE bool shares_shift(const Exponents& exponents, float scale) {
  return exponents.undecided ? scale <= kLargestSharedScale : exponents.shared_shift;
}
// Whether a kernel is of the kind that runs.
SIMCLR_DEVICE bool is_chosen(const Exponents& exponents) {
  if (!exponents.undecided) return true;
  return shares_shift(exponents, scale_of(exponents)) == exponents.shared_shift;
}

}  // namespace simclr::fused
