// The Python module: importing it registers the operators, and it tells how they will run.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <torch/version.h>

#include "cpu/simd/kernels.h"

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {
  m.attr("torch_version") = TORCH_VERSION;
  m.attr("compiler") = __VERSION__;
  m.def("active_isa", &simclr::simd::active_isa, "Instruction set that the CPU kernels run with.");
  m.def("available_isas", &simclr::simd::available_isas,
        "Instruction sets that this processor can run, best last.");
}
