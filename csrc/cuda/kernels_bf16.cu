#include "cuda/kernels.cuh"

namespace simclr::fused {

const Kernels kBf16Kernels = kKernels<Bf16>;

}  // namespace simclr::fused
