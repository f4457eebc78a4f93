// What differs between the precisions: how an element is stored, and how stored elements and
// weights become fragments for the tensor cores. `operand` rounds an element that will be
// multiplied, `result` an element of a gradient.
//
// In one step, a tensor core takes 32 bytes of each row: 16 half elements, or 8 floats.

#pragma once

#include "common/limits.h"
#include "cuda/device.cuh"

namespace simclr::fused {

// A unit, kUnitBytes, is an asynchronous copy, and a row of an 8 x 8 matrix.
constexpr int kStepUnits = 2;  // units of a row that one step multiplies

// What the two half types share. In the product with the weights, a step takes 16 of the tile's
// columns: the fragments of two adjacent accumulators, which hold columns 2t, 2t + 1 of their 8 in
// lane t of 4, are the halves of one operand.
template <typename Derived>
struct Half {
  using Storage = uint16_t;
  static constexpr int kAccumulatorsPerStep = 2;
  struct A {
    uint32_t part[4];
  };
  struct B {
    uint32_t part[2];
  };

  static SIMCLR_DEVICE A a_from_memory(const uint32_t (&raw)[4]) {
    return {{raw[0], raw[1], raw[2], raw[3]}};
  }
  static SIMCLR_DEVICE B b_from_memory(uint32_t raw0, uint32_t raw1) { return {{raw0, raw1}}; }
  static SIMCLR_DEVICE A a_from_weights(const float (*w)[4]) {
    return {{Derived::pack(w[0][0], w[0][1]), Derived::pack(w[0][2], w[0][3]),
             Derived::pack(w[1][0], w[1][1]), Derived::pack(w[1][2], w[1][3])}};
  }
  static SIMCLR_DEVICE Storage operand(float x) { return result(x); }
  static SIMCLR_DEVICE Storage result(float x) {
    return static_cast<Storage>(Derived::pack(x, 0.0f) & 0xffffu);
  }
};

struct Bf16 : Half<Bf16> {
  static SIMCLR_DEVICE float widen(Storage x) { return bits_float(uint32_t{x} << 16); }
  static SIMCLR_DEVICE uint32_t pack(float low, float high) { return pack_bf16(low, high); }
  static SIMCLR_DEVICE void mma(float (&d)[4], const A& a, const B& b) {
    mma_bf16(d, a.part, b.part);
  }
};

struct Fp16 : Half<Fp16> {
  static SIMCLR_DEVICE float widen(Storage x) { return fp16_to_float(x); }
  static SIMCLR_DEVICE uint32_t pack(float low, float high) { return pack_fp16(low, high); }
  static SIMCLR_DEVICE void mma(float (&d)[4], const A& a, const B& b) {
    mma_fp16(d, a.part, b.part);
  }
};

// In the product with the weights, a step takes the 8 columns of one accumulator. Lane t of 4 holds
// its columns 2t and 2t + 1, but the operand needs t and t + 4: so the step multiplies the columns
// in a different order, and the other operand's rows are read in that order too.
struct Tf32 {
  using Storage = float;
  static constexpr int kAccumulatorsPerStep = 1;
  struct A {
    uint32_t part[4];
  };
  struct B {
    uint32_t part[2];
  };

  static SIMCLR_DEVICE float widen(float x) { return x; }
  // Rounded before it is stored: the tensor cores would truncate.
  static SIMCLR_DEVICE float operand(float x) { return bits_float(round_tf32(x)); }
  static SIMCLR_DEVICE float result(float x) { return x; }
  static SIMCLR_DEVICE A a_from_memory(const uint32_t (&raw)[4]) {
    return {{raw[0], raw[1], raw[2], raw[3]}};
  }
  static SIMCLR_DEVICE B b_from_memory(uint32_t raw0, uint32_t raw1) { return {{raw0, raw1}}; }
  static SIMCLR_DEVICE A a_from_weights(const float (*w)[4]) {
    return {{round_tf32(w[0][0]), round_tf32(w[0][2]), round_tf32(w[0][1]), round_tf32(w[0][3])}};
  }
  static SIMCLR_DEVICE void mma(float (&d)[4], const A& a, const B& b) {
    mma_tf32(d, a.part, b.part);
  }
};

// x = high + low to 22 bits; products omit low times low. Most instructions of the main loop are
// those that split the rows' elements, so these round by adding half a unit to the bits: the tensor
// cores ignore what is behind the point of rounding. Weights are few, and may be any NaN.
struct Tf32x3 {
  using Storage = float;
  static constexpr int kAccumulatorsPerStep = 1;
  struct A {
    uint32_t high[4];
    uint32_t low[4];
  };
  struct B {
    uint32_t high[2];
    uint32_t low[2];
  };

  static SIMCLR_DEVICE float widen(float x) { return x; }
  // The NaN of an operation has all bits set, and would become a zero when half a unit is added; so
  // would the low part of an infinity.
  static SIMCLR_DEVICE float operand(float x) {
    return fabsf(x) < INFINITY ? x : bits_float(0x7fc00000u);
  }
  static SIMCLR_DEVICE float result(float x) { return x; }
  static SIMCLR_DEVICE void split_operand(uint32_t bits, uint32_t& high, uint32_t& low) {
    high = bits + kHalfUnit;
    low = float_bits(bits_float(bits) - bits_float(high & kUsedBits)) + kHalfUnit;
  }
  static SIMCLR_DEVICE void split_weight(float x, uint32_t& high, uint32_t& low) {
    high = round_tf32(x);
    low = round_tf32(x - bits_float(high));
  }
  static SIMCLR_DEVICE A a_from_memory(const uint32_t (&raw)[4]) {
    A a;
    SIMCLR_UNROLL
    for (int i = 0; i < 4; ++i) split_operand(raw[i], a.high[i], a.low[i]);
    return a;
  }
  static SIMCLR_DEVICE B b_from_memory(uint32_t raw0, uint32_t raw1) {
    B b;
    split_operand(raw0, b.high[0], b.low[0]);
    split_operand(raw1, b.high[1], b.low[1]);
    return b;
  }
  static SIMCLR_DEVICE A a_from_weights(const float (*w)[4]) {
    const float weight[4] = {w[0][0], w[0][2], w[0][1], w[0][3]};
    A a;
    SIMCLR_UNROLL
    for (int i = 0; i < 4; ++i) split_weight(weight[i], a.high[i], a.low[i]);
    return a;
  }
  static SIMCLR_DEVICE void mma(float (&d)[4], const A& a, const B& b) {
    mma_tf32(d, a.low, b.high);
    mma_tf32(d, a.high, b.low);
    mma_tf32(d, a.high, b.high);
  }

 private:
  static constexpr uint32_t kUsedBits = 0xffffe000;  // of a float, by the tensor cores
  static constexpr uint32_t kHalfUnit = 0x1000;      // of the last of them
};

}  // namespace simclr::fused
