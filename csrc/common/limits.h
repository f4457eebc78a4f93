// Numbers that several files must agree on.

#pragma once

#include <cstdint>

namespace simclr {

// How many powers of two the similarities of all pairs may span, one shift for all, so that none
// underflows: floats go down to 2^-126, doubles to 2^-1022.
constexpr double kSafeFloatRange = 115;
constexpr double kSafeDoubleRange = 1000;

constexpr int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

namespace fused {

// Of the CUDA kernels: the largest D, whose rows fill the registers and shared memory of a block;
// the rows of z, counted in 32 bits with room for sums of two; and the bytes of one copy.
constexpr int64_t kMaxDim = 256;
constexpr int64_t kMaxRows = int64_t{1} << 30;
constexpr int kUnitBytes = 16;

}  // namespace fused
}  // namespace simclr
