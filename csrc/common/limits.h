// Numbers that several files must agree on.

#pragma once

#include <cstdint>

namespace simclr {

// A temperature or a scale, and its reciprocal, are normal numbers of float.
constexpr double kSmallestScale = 0x1p-126;
constexpr double kLargestScale = 0x1p126;

// How many powers of two the exponentials of all pairs may span on the CPU, and in the tiled
// backend, with one shared shift, so that none underflows: floats go down to 2^-126, doubles to
// 2^-1022.
constexpr double kSafeFloatRange = 115;
constexpr double kSafeDoubleRange = 1000;

constexpr int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

namespace fused {

// Limits of the CUDA kernels: the largest D, limited by the registers and shared memory of a block;
// the most rows of z, so that the sum of two row numbers fits in 32 bits; the bytes of one copy.
constexpr int64_t kMaxDim = 256;
constexpr int64_t kMaxRows = int64_t{1} << 30;
constexpr int kUnitBytes = 16;

}  // namespace fused
}  // namespace simclr
