// The kernels for x86-64 with AVX-512 (F, VL, BW, DQ).

#include "cpu/simd/kernels.h"

#ifdef __x86_64__

// After the includes: only the code below may use these instructions.
#ifdef __clang__
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")
#endif

#define SIMCLR_ISA avx512
#define SIMCLR_VECTOR_BYTES 64
#include "cpu/simd/kernels.inl"
// After the vectors, which that includes.
#include "cpu/simd/half.inl"

#ifdef __clang__
#pragma clang attribute pop
#endif

#endif  // __x86_64__
