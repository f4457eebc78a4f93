#include "cuda/launch.cuh"

#include <c10/cuda/CUDAException.h>

namespace simclr::fused {

void launch_kernel(const void* kernel, int64_t blocks, int threads, int shared_bytes, Stream stream,
                   void** arguments) {
  if (shared_bytes > 1024) {  // a kernel with tiles
    // Two blocks take 138 KiB, which an A100 has only with the smallest L1. The kernels' data
    // bypass L1.
    C10_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
    C10_CUDA_CHECK(cudaFuncSetAttribute(kernel, cudaFuncAttributePreferredSharedMemoryCarveout,
                                        cudaSharedmemCarveoutMaxShared));
  }
  C10_CUDA_CHECK(cudaLaunchKernel(kernel, dim3(static_cast<unsigned>(blocks)), dim3(threads),
                                  arguments, shared_bytes, stream));
}

}  // namespace simclr::fused
