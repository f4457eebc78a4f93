// The machine that the kernels are written for: threads, shared memory, tensor cores, asynchronous
// copies. Every instruction that C++ does not have is wrapped in a short function, so that the same
// kernels compile for a GPU here and for the CPU with the twins in tests/cuda_host.

#pragma once

#include <cstdint>

#define SIMCLR_DEVICE __device__ __forceinline__
#define SIMCLR_KERNEL(max_threads, min_blocks) __global__ __launch_bounds__(max_threads, min_blocks)
#define SIMCLR_UNROLL _Pragma("unroll")
#define SIMCLR_UNROLL_8 _Pragma("unroll 8")

namespace simclr::fused {

// ---- Threads. A block is one-dimensional, and its number of threads a multiple of 32. ----

SIMCLR_DEVICE int thread_id() {
  const int id = static_cast<int>(threadIdx.x);
  __builtin_assume(id >= 0);  // so that division compiles to a shift without rounding
  return id;
}
SIMCLR_DEVICE int block_id() { return static_cast<int>(blockIdx.x); }
SIMCLR_DEVICE void sync_threads() { __syncthreads(); }
SIMCLR_DEVICE void sync_warp() { __syncwarp(); }
SIMCLR_DEVICE float shuffle_xor(float value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}
SIMCLR_DEVICE int shuffle_xor(int value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}
SIMCLR_DEVICE double shuffle_xor(double value, int lanes) {
  return __shfl_xor_sync(0xffffffffu, value, lanes);
}

// A number in global memory that one block of a launch may write, and no other may access: the
// simulated GPU checks that.
template <typename T>
SIMCLR_DEVICE T& owned(T* address) {
  return *address;
}

// Whether all other blocks of the launch have been here before: what they have written until then
// is visible to `load_of_others`. `blocks_done` is 0 before the launch.
SIMCLR_DEVICE bool is_last_block(int* blocks_done) {
  __syncthreads();
  bool last = false;
  if (thread_id() == 0) {
    __threadfence();  // of what the block's other threads have written, too: they were at the
                      // barrier
    last = atomicAdd(blocks_done, 1) == static_cast<int>(gridDim.x) - 1;
    __threadfence();
  }
  return __syncthreads_or(last);
}
// Past the L1 cache, which may have an older value.
SIMCLR_DEVICE float load_of_others(const float* address) { return __ldcg(address); }

// ---- Shared memory, addressed by the offset in bytes from its beginning: 32 bits where a pointer
// takes 64, since the kernels are short of registers. The compiler knows no object there; the
// memory clobbers keep accesses, copies and barriers in program order. ----

SIMCLR_DEVICE uint32_t shared_address(int offset) {
  extern __shared__ __align__(128) unsigned char memory[];
  return static_cast<uint32_t>(__cvta_generic_to_shared(memory)) + offset;
}
SIMCLR_DEVICE uint32_t shared_load_bits(int offset) {
  uint32_t bits;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(bits) : "r"(shared_address(offset)) : "memory");
  return bits;
}
SIMCLR_DEVICE void shared_store_bits(int offset, uint32_t bits) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(shared_address(offset)), "r"(bits) : "memory");
}

// ---- Asynchronous copies to shared memory, in groups that complete in order. If `valid` is false,
// zeros are written and nothing is read. ----

SIMCLR_DEVICE void copy_async_16(int shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
SIMCLR_DEVICE void copy_async_4(int shared, const void* global, bool valid) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(shared_address(shared)),
               "l"(global), "r"(valid ? 4 : 0)
               : "memory");
}
SIMCLR_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until all but the last `kPending` groups of this thread are complete.
template <int kPending>
SIMCLR_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// owned(number) += x, in the order of this thread's program, which does not wait for the number.
SIMCLR_DEVICE void add_to_owned(float* number, float x) {
  asm volatile("red.global.add.f32 [%0], %1;" ::"l"(number), "f"(x) : "memory");
}

// ---- Tensor cores. The fragments' layouts are those of the PTX manual. ----

// Loads four 8 x 8 matrices of 16-bit elements; lane l passes the offset of row l % 8 of matrix
// l / 8, 16 bytes.
SIMCLR_DEVICE void load_matrices(uint32_t (&matrix)[4], int row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, each matrix transposed.
SIMCLR_DEVICE void load_matrices_transposed(uint32_t (&matrix)[4], int row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(matrix[0]), "=r"(matrix[1]), "=r"(matrix[2]), "=r"(matrix[3])
               : "r"(shared_address(row))
               : "memory");
}

// d [16, 8] += a [16, 16] b [16, 8]
SIMCLR_DEVICE void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
SIMCLR_DEVICE void mma_fp16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// d [16, 8] += a [16, 8] b [8, 8], elements of 32 bits of which only the upper 19 are used
SIMCLR_DEVICE void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// ---- Numbers. ----

// Hides the origin of x from the compiler, so that it does not hoist expressions out of the loop
// and run out of registers.
SIMCLR_DEVICE int opaque(int x) {
  asm volatile("" : "+r"(x));
  return x;
}

// 2^x, to 2 ulp; 0 below 2^-126.
SIMCLR_DEVICE float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// 1 / x, to 1 ulp; 0 of what is infinite or at least 2^126.
SIMCLR_DEVICE float reciprocal_fast(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
// Two numbers rounded to nearest even, the first in the lower half.
SIMCLR_DEVICE uint32_t pack_bf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
SIMCLR_DEVICE uint32_t pack_fp16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
SIMCLR_DEVICE float fp16_to_float(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
// x rounded to the nearest TF32 number (10 bits after the point), as a float's bits.
SIMCLR_DEVICE uint32_t round_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}
SIMCLR_DEVICE uint32_t float_bits(float x) { return __float_as_uint(x); }
SIMCLR_DEVICE float bits_float(uint32_t bits) { return __uint_as_float(bits); }
SIMCLR_DEVICE uint64_t double_bits(double x) {
  return static_cast<uint64_t>(__double_as_longlong(x));
}
SIMCLR_DEVICE double bits_double(uint64_t bits) {
  return __longlong_as_double(static_cast<long long>(bits));
}

}  // namespace simclr::fused
