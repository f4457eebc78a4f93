// How a tensor core adds: it does not round, it cuts off.

#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>

namespace simt {

// start + the sum of `products`, which are exact: all are aligned to the largest, with one bit more
// than a float has, and what lies below is cut off; of their sum, what a float cannot hold. As an
// A100 does it, the least exact from sm_80 on: an H100 keeps two bits more and takes twice as many
// products at once (Khattak and Mikaitis, "Accurate Models of NVIDIA Tensor Cores",
// arXiv:2512.07004).
template <int kCount>
float truncated_sum(float start, const double (&products)[kCount]) {
  double exact = start;
  double largest = std::fabs(start);
  for (const double product : products) {
    exact += product;
    largest = std::max(largest, std::fabs(product));
  }
  if (!std::isfinite(exact) || largest == 0) return static_cast<float>(exact);
  constexpr int kBits = 24;  // after the largest one's first: 23 of a float, and one
  const double units = std::ldexp(1.0, kBits - std::ilogb(largest));
  auto sum = static_cast<int64_t>(start * units);
  for (const double product : products) sum += static_cast<int64_t>(product * units);
  const double total = static_cast<double>(sum) / units;
  // A double has 29 bits more than a float.
  return static_cast<float>(std::bit_cast<double>(std::bit_cast<uint64_t>(total) >> 29 << 29));
}

}  // namespace simt
