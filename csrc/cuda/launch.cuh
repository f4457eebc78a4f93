// Launches a kernel. Has a twin in tests/cuda_host.

#pragma once

#include "cuda/kernels.h"

namespace simclr::fused {

// In launch.cpp, without the kernel's type, since nvcc would read torch's headers for each of its
// files.
void launch_kernel(const void* kernel, int64_t blocks, int threads, int shared_bytes, Stream stream,
                   void** arguments);

template <typename Params>
void launch(void (*kernel)(Params), int64_t blocks, int threads, int shared_bytes, Stream stream,
            const Params& params) {
  void* arguments[] = {const_cast<Params*>(&params)};
  launch_kernel(reinterpret_cast<const void*>(kernel), blocks, threads, shared_bytes, stream,
                arguments);
}

}  // namespace simclr::fused
