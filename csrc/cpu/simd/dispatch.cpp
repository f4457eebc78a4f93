// Selects the kernels for the best instruction set that the processor has.

#include <c10/util/Exception.h>

#include <cstdlib>

#include "cpu/simd/kernels.h"

namespace simclr::simd {

#define SIMCLR_DECLARE_ISA(isa) \
  namespace isa {               \
  template <typename T>         \
  Kernels<T> table();           \
  HalfKernels half_table();     \
  }

SIMCLR_DECLARE_ISA(baseline)
#ifdef __x86_64__
SIMCLR_DECLARE_ISA(avx2)
SIMCLR_DECLARE_ISA(avx512)
#endif

namespace {

struct Isa {
  const char* name;
  Kernels<float> (*float_table)();
  Kernels<double> (*double_table)();
  HalfKernels (*half_table)();
};

#define SIMCLR_ISA_NAMED(isa) {#isa, isa::table<float>, isa::table<double>, isa::half_table}

// Best last.
std::vector<Isa> supported_isas() {
  std::vector<Isa> all = {SIMCLR_ISA_NAMED(baseline)};
#ifdef __x86_64__
  __builtin_cpu_init();
  const bool has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  if (has_avx2) all.push_back(SIMCLR_ISA_NAMED(avx2));
  if (has_avx512) all.push_back(SIMCLR_ISA_NAMED(avx512));
#endif
  return all;
}

Isa find_isa(const std::string& wanted) {
  std::string names;
  for (const Isa& isa : supported_isas()) {
    if (isa.name == wanted) return isa;
    names += (names.empty() ? "" : ", ") + std::string(isa.name);
  }
  TORCH_CHECK_VALUE(false, "SIMCLR_EXT_ISA is '", wanted,
                    "', but this processor runs one of: ", names);
}

Isa choose_isa() {
  const char* wanted = std::getenv("SIMCLR_EXT_ISA");
  return wanted == nullptr || *wanted == '\0' ? supported_isas().back() : find_isa(wanted);
}

}  // namespace

template <>
Kernels<float> kernels_for<float>(const std::string& isa) {
  return find_isa(isa).float_table();
}

template <>
Kernels<double> kernels_for<double>(const std::string& isa) {
  return find_isa(isa).double_table();
}

HalfKernels half_kernels_for(const std::string& isa) { return find_isa(isa).half_table(); }

const HalfKernels& half_kernels() {
  static const HalfKernels table = half_kernels_for(active_isa());
  return table;
}

template <typename T>
const Kernels<T>& kernels() {
  static const Kernels<T> table = kernels_for<T>(active_isa());
  return table;
}

template const Kernels<float>& kernels<float>();
template const Kernels<double>& kernels<double>();

std::string active_isa() {
  static const std::string name = choose_isa().name;
  return name;
}

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Isa& isa : supported_isas()) names.emplace_back(isa.name);
  return names;
}

}  // namespace simclr::simd
