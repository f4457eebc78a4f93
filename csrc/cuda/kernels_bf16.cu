#include "cuda/launch.cuh"

namespace simclr::fused {

const Kernels kBf16Kernels = kKernels<Bf16>;

}  // namespace simclr::fused
