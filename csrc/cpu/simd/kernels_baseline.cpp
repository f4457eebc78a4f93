// The kernels for the instructions that every processor has: SSE2 on x86-64, NEON on Arm.

#include "cpu/simd/kernels.h"

#define SIMCLR_ISA baseline
#define SIMCLR_VECTOR_BYTES 16
#include "cpu/simd/kernels.inl"
// After the vectors, which that includes.
#include "cpu/simd/half.inl"
