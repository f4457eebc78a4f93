#include "cuda/launch.cuh"

namespace simclr::fused {

const Kernels kTf32Kernels = kKernels<Tf32>;

}  // namespace simclr::fused
