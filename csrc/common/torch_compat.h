// All workarounds for older versions of torch, each with the version that makes it unnecessary. The
// oldest supported version is in pyproject.toml; simclr_ext/_torch_compat.py has the Python part.

#pragma once

#include <ATen/Context.h>
#include <torch/version.h>

// Whether the torch that this is compiled against is MAJOR.MINOR or newer.
#define SIMCLR_TORCH_AT_LEAST(major, minor) \
  (TORCH_VERSION_MAJOR > (major) ||         \
   (TORCH_VERSION_MAJOR == (major) && TORCH_VERSION_MINOR >= (minor)))

namespace simclr {

// Whether torch.mm of floats may round to TF32 on CUDA, as set by
// torch.backends.cuda.matmul.fp32_precision, or before torch 2.9 by its older switches.
inline bool matmul_may_use_tf32() {
#if SIMCLR_TORCH_AT_LEAST(2, 10)
  return at::globalContext().float32Precision(at::Float32Backend::CUDA, at::Float32Op::MATMUL) ==
         at::Float32Precision::TF32;
#elif SIMCLR_TORCH_AT_LEAST(2, 9)
  return at::globalContext().float32Precision("cuda", "matmul") == "tf32";
#else
  return at::globalContext().allowTF32CuBLAS();
#endif
}

}  // namespace simclr
