// Where kernels run: on the device of a tensor, in its current stream. Has a twin in
// tests/cuda_host.

#pragma once

#include <ATen/core/Tensor.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include "cuda/strips.h"

// The dispatch key that the operators are registered for.
#define SIMCLR_DISPATCH_KEY CUDA

namespace simclr::fused {

constexpr Grid kGrid = kLargeDevice;

// Whether reading a number on the host would wait for the device.
inline bool in_device_memory(const at::Tensor& scalar) { return scalar.is_cuda(); }

class StreamGuard {
 public:
  explicit StreamGuard(const at::Tensor& tensor) : guard_(tensor.device()) {}
  Stream stream() const { return c10::cuda::getCurrentCUDAStream(); }

 private:
  c10::cuda::CUDAGuard guard_;
};

}  // namespace simclr::fused
