// The twins of csrc/cuda/device.cuh on the simulated GPU: the same functions, each simulating the
// instruction that its namesake wraps.

#pragma once

#include <c10/util/BFloat16.h>
#include <c10/util/Half.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "fragments.h"
#include "simt.h"
#include "truncated_sum.h"

#define SIMCLR_DEVICE inline
#define SIMCLR_KERNEL(max_threads, min_blocks) inline
#define SIMCLR_UNROLL
#define SIMCLR_UNROLL_8

namespace simclr::fused {

inline int thread_id() { return simt::thread_id(); }
inline int block_id() { return simt::block_id(); }
inline void sync_threads() { simt::sync_threads(); }
inline void sync_warp() {
  simt::warp_collective("sync_warp", nullptr, [](void* const(&)[32]) {});
}

template <typename T>
T shuffle_xor(T value, int lanes) {
  struct Operand {
    T value;
    int lanes;
    T result;
  } operand{value, lanes, T()};
  simt::warp_collective("shuffle_xor", &operand, [](void* const(&operands)[32]) {
    for (int lane = 0; lane < 32; ++lane) {
      auto* own = static_cast<Operand*>(operands[lane]);
      own->result = static_cast<Operand*>(operands[lane ^ own->lanes])->value;
    }
  });
  return operand.result;
}

template <typename T>
T& owned(T* address) {
  simt::own(address);
  return *address;
}
inline void add_to_owned(float* number, float x) { owned(number) += x; }

// Blocks run one after the other.
inline bool is_last_block(int* blocks_done) {
  static bool last;
  simt::sync_threads();
  if (thread_id() == 0) last = ++*blocks_done == simt::blocks();
  simt::sync_threads();
  return last;
}
inline float load_of_others(const float* address) { return *address; }

inline uint32_t shared_load_bits(int offset) {
  uint32_t bits;
  std::memcpy(&bits, simt::shared_read(offset, 4, thread_id() % 32), 4);
  return bits;
}
inline void shared_store_bits(int offset, uint32_t bits) {
  std::memcpy(simt::shared_write(offset, 4), &bits, 4);
}

inline void copy_async_16(int shared, const void* global, bool valid) {
  simt::copy_async(shared, global, 16, valid);
}
inline void copy_async_4(int shared, const void* global, bool valid) {
  simt::copy_async(shared, global, 4, valid);
}
inline void copy_async_commit() { simt::copy_async_commit(); }
template <int kPending>
void copy_async_wait() {
  simt::copy_async_wait(kPending);
}

template <simt::Place (*kPlace)(int, int)>
void load_matrices_as(const char* name, uint32_t (&matrix)[4], int row) {
  struct Operand {
    uint32_t* matrix;
    int row;
  } operand{matrix, row};
  simt::warp_collective(name, &operand, [](void* const(&operands)[32]) {
    for (int m = 0; m < 4; ++m) {
      uint16_t element[8][8];
      for (int r = 0; r < 8; ++r) {
        const int lane = 8 * m + r;
        const int offset = static_cast<Operand*>(operands[lane])->row;
        std::memcpy(element[r], simt::shared_read(offset, 16, lane), 16);
      }
      for (int lane = 0; lane < 32; ++lane) {
        const auto [row0, column0] = kPlace(lane, 0);
        const auto [row1, column1] = kPlace(lane, 1);
        static_cast<Operand*>(operands[lane])->matrix[m] =
            element[row0][column0] | uint32_t{element[row1][column1]} << 16;
      }
    }
  });
}
inline void load_matrices(uint32_t (&matrix)[4], int row) {
  load_matrices_as<simt::matrix_8x8>("load_matrices", matrix, row);
}
inline void load_matrices_transposed(uint32_t (&matrix)[4], int row) {
  load_matrices_as<simt::matrix_8x8_transposed>("load_matrices_transposed", matrix, row);
}

// d [16, 8] += a [16, kDepth] b [kDepth, 8], in two sums of half the depth each;
// kElement(registers, e) is a lane's element e.
template <int kDepth, simt::Place (*kA)(int, int), simt::Place (*kB)(int, int),
          float (*kElement)(const uint32_t*, int)>
void mma_as(const char* name, float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Operand {
    float* d;
    const uint32_t* a;
    const uint32_t* b;
  } operand{d, a, b};
  simt::warp_collective(name, &operand, [](void* const(&operands)[32]) {
    float left[16][kDepth];
    float right[kDepth][8];
    for (int lane = 0; lane < 32; ++lane) {
      const auto* own = static_cast<Operand*>(operands[lane]);
      for (int e = 0; e < kDepth / 2; ++e) {
        const auto [row, column] = kA(lane, e);
        left[row][column] = kElement(own->a, e);
      }
      for (int e = 0; e < kDepth / 4; ++e) {
        const auto [row, column] = kB(lane, e);
        right[row][column] = kElement(own->b, e);
      }
    }
    for (int lane = 0; lane < 32; ++lane) {
      for (int e = 0; e < 4; ++e) {
        const auto [row, column] = simt::c_16x8(lane, e);
        float& sum = static_cast<Operand*>(operands[lane])->d[e];
        for (int first = 0; first < kDepth; first += kDepth / 2) {
          double products[kDepth / 2];
          for (int k = 0; k < kDepth / 2; ++k) {
            products[k] = double{left[row][first + k]} * right[first + k][column];
          }
          sum = simt::truncated_sum(sum, products);
        }
      }
    }
  });
}
inline float bf16_element(const uint32_t* registers, int e) {
  return std::bit_cast<float>((registers[e / 2] >> (16 * (e % 2))) << 16);
}
inline float fp16_element(const uint32_t* registers, int e) {
  const auto bits = static_cast<uint16_t>(registers[e / 2] >> (16 * (e % 2)));
  return c10::Half(bits, c10::Half::from_bits());
}
inline float tf32_element(const uint32_t* registers, int e) {
  return std::bit_cast<float>(registers[e] & 0xffffe000u);
}
inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_as<16, simt::a_16x16, simt::b_16x8, bf16_element>("mma_bf16", d, a, b);
}
inline void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_as<16, simt::a_16x16, simt::b_16x8, fp16_element>("mma_fp16", d, a, b);
}
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  mma_as<8, simt::a_16x8, simt::b_8x8, tf32_element>("mma_tf32", d, a, b);
}

inline int opaque(int x) { return x; }
inline float exp2_fast(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }
inline float reciprocal_fast(float x) { return std::fabs(x) > 0x1p126f ? 0.0f / x : 1.0f / x; }
inline uint32_t pack_bf16(float low, float high) {
  return c10::BFloat16(low).x | uint32_t{c10::BFloat16(high).x} << 16;
}
inline uint32_t pack_fp16(float low, float high) {
  return c10::Half(low).x | uint32_t{c10::Half(high).x} << 16;
}
inline float fp16_to_float(uint16_t bits) { return c10::Half(bits, c10::Half::from_bits()); }
// To nearest, ties away from zero. What is no number stays none, whatever bits are cut off.
inline uint32_t round_tf32(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  if (!std::isfinite(x)) return std::isnan(x) ? 0x7fffe000u : bits;
  return (bits + 0x1000u) & 0xffffe000u;
}
inline uint32_t float_bits(float x) { return std::bit_cast<uint32_t>(x); }
inline float bits_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint64_t double_bits(double x) { return std::bit_cast<uint64_t>(x); }
inline double bits_double(uint64_t bits) { return std::bit_cast<double>(bits); }

}  // namespace simclr::fused
