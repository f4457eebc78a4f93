#include "cuda/kernels.cuh"

namespace simclr::fused {

const Kernels kTf32x3Kernels = kKernels<Tf32x3>;

}  // namespace simclr::fused
