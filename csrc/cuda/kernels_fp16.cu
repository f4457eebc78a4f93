#include "cuda/kernels.cuh"

namespace simclr::fused {

const Kernels kFp16Kernels = kKernels<Fp16>;

}  // namespace simclr::fused
