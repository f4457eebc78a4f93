// The Python module: importing it registers the operators; its attributes say how they run.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include <sstream>
#include <string>
#include <vector>

#include "common/limits.h"
#include "cpu/simd/kernels.h"

// What simclr_ext/_build_config.py compiled the CUDA kernels with; nothing without them.
#ifndef SIMCLR_CUDA_VERSION
#define SIMCLR_CUDA_VERSION
#define SIMCLR_CUDA_ARCHITECTURES
#endif
#define SIMCLR_TO_STRING_(...) #__VA_ARGS__
#define SIMCLR_TO_STRING(...) SIMCLR_TO_STRING_(__VA_ARGS__)

namespace {

std::vector<std::string> cuda_architectures() {
  std::istringstream words(SIMCLR_TO_STRING(SIMCLR_CUDA_ARCHITECTURES));
  std::vector<std::string> names;
  for (std::string name; std::getline(words, name, ',');) names.push_back(name);
  return names;
}

}  // namespace

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.attr("torch_version") = TORCH_VERSION;
  m.attr("compiler") = __VERSION__;
  m.attr("cuda_version") = SIMCLR_TO_STRING(SIMCLR_CUDA_VERSION);
  m.attr("cuda_architectures") = cuda_architectures();
  // For the tests: Python has its own copies, since it needs these before this module is loaded.
  m.attr("cuda_max_dim") = simclr::fused::kMaxDim;
  m.attr("safe_ranges") = std::vector<double>{simclr::kSafeFloatRange, simclr::kSafeDoubleRange};
  m.def("active_isa", &simclr::simd::active_isa, "Instruction set that the CPU kernels use.");
  m.def("available_isas", &simclr::simd::available_isas,
        "Instruction sets that this processor can run, best last.");
}
