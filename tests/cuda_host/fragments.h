// Which elements of its operands each lane of a warp holds, for the instructions of tensor cores
// that the kernels use: the figures of the PTX manual as functions. test_fragments.cpp compares
// them with an independent source.

#pragma once

namespace simt {

struct Place {
  int row;
  int column;
  bool operator==(const Place&) const = default;
};

// mma.m16n8k16 of 16-bit elements. Element e of A or B is the half e % 2 of register e / 2.
constexpr Place a_16x16(int lane, int e) {
  return {lane / 4 + 8 * (e / 2 % 2), 2 * (lane % 4) + e % 2 + 8 * (e / 4)};
}
constexpr Place b_16x8(int lane, int e) { return {2 * (lane % 4) + e % 2 + 8 * (e / 2), lane / 4}; }

// mma.m16n8k8 of tf32. Element e is register e.
constexpr Place a_16x8(int lane, int e) { return {lane / 4 + 8 * (e % 2), lane % 4 + 4 * (e / 2)}; }
constexpr Place b_8x8(int lane, int e) { return {lane % 4 + 4 * e, lane / 4}; }

// The accumulators of both.
constexpr Place c_16x8(int lane, int e) { return {lane / 4 + 8 * (e / 2), 2 * (lane % 4) + e % 2}; }

// ldmatrix: the half e of a register, in the matrix that the register is for.
constexpr Place matrix_8x8(int lane, int e) { return {lane / 4, 2 * (lane % 4) + e}; }
constexpr Place matrix_8x8_transposed(int lane, int e) { return {2 * (lane % 4) + e, lane / 4}; }

}  // namespace simt
