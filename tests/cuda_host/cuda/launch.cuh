// The twin of `launch` in csrc/cuda/launch.cuh.

#pragma once

#include "cuda/kernels.h"
#include "simt.h"

namespace simclr::fused {

template <typename Params>
void launch(void (*kernel)(Params), int64_t blocks, int threads, int shared_bytes, Stream,
            const Params& params) {
  simt::launch(blocks, threads, shared_bytes, [&] { kernel(params); });
}

}  // namespace simclr::fused
