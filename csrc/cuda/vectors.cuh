// Adjacent elements in global memory that a thread loads or stores with one instruction. Their
// address must be a multiple of their size together.

#pragma once

#include "cuda/device.cuh"

namespace simclr::fused {

template <typename T, int kSize>
struct alignas(kSize * sizeof(T)) Vector {
  T element[kSize];
};

template <int kSize, typename T>
SIMCLR_DEVICE Vector<T, kSize> load_vector(const T* address) {
  return *reinterpret_cast<const Vector<T, kSize>*>(address);
}
template <int kSize, typename T>
SIMCLR_DEVICE void store_vector(T* address, const Vector<T, kSize>& vector) {
  *reinterpret_cast<Vector<T, kSize>*>(address) = vector;
}

}  // namespace simclr::fused
