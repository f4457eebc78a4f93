#include "cuda/kernels.cuh"

namespace simclr::fused {

const Kernels kTf32Kernels = kKernels<Tf32>;

}  // namespace simclr::fused
