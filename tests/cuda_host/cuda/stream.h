// The twin of csrc/cuda/stream.h.

#pragma once

#include <ATen/core/Tensor.h>

#include "cuda/kernels.h"

#define SIMCLR_DISPATCH_KEY CPU

namespace simclr::fused {

// Few, so that the strips of small problems have several tiles of rows.
constexpr int64_t kMaxStrips = 3;

// All memory is the host's; a test decides as what numbers are passed.
inline bool numbers_in_device_memory = false;
inline bool in_device_memory(const at::Tensor&) { return numbers_in_device_memory; }

class StreamGuard {
 public:
  explicit StreamGuard(const at::Tensor&) {}
  Stream stream() const { return nullptr; }
};

}  // namespace simclr::fused
