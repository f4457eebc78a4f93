// What both passes do before they launch kernels.

#pragma once

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sort.h>

#include <numbers>

#include "common/limits.h"
#include "common/torch_compat.h"
#include "cuda/kernels.h"
#include "operands.h"

namespace simclr::fused {

inline const Kernels& kernels_for(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return kBf16Kernels;
  if (dtype == at::kHalf) return kFp16Kernels;
  TORCH_CHECK_TYPE(dtype == at::kFloat,
                   "the fused CUDA kernels take float32, bfloat16 or float16, got ", dtype,
                   "; the tiled backend takes it");
  return matmul_may_use_tf32() ? kTf32Kernels : kTf32x3Kernels;
}

// The scale of base-2 logits, and the shift that all rows share, if possible. With labels each row
// has its own shift: a kernel that sums for both sides at once has no registers left for labels.
struct Exponents {
  Exponents(double temperature, bool normalized, bool labels)
      : scale(static_cast<float>(std::numbers::log2e / temperature)),
        shared_shift(normalized && !labels && 2 * scale <= kSafeFloatRange),
        shift(shared_shift ? scale : 0) {}
  float scale;
  bool shared_shift;
  float shift;
};

// 1 / eps, computed once: the backward pass compares it with what the forward pass has stored.
inline float inverse(double eps) { return 1.0f / static_cast<float>(eps); }

// The number of elements of a stored row: D, padded with zeros to whole units, which the kernels
// copy. The padding is part of the tensor z, so that a copy of z also has zeros there.
inline int64_t padded(int64_t dim, const at::Tensor& z) {
  const int64_t unit = kUnitBytes / z.element_size();
  return divide_up(dim, unit) * unit;
}

// z: [count, padded(dim)], contiguous.
inline Rows make_rows(const at::Tensor& z, int64_t dim, const float* factor) {
  return {.z = z.const_data_ptr(),
          .factor = factor,
          .dim = static_cast<int>(dim),
          .stride = static_cast<int>(z.size(1))};
}

inline void check_size(int64_t rows, int64_t dim) {
  TORCH_CHECK_VALUE(dim <= kMaxDim, "the fused CUDA kernels take D <= ", kMaxDim, ", got ", dim,
                    "; the tiled backend takes it");
  TORCH_CHECK_VALUE(rows <= kMaxRows, "the fused CUDA kernels take ", kMaxRows,
                    " rows of both sides, got ", rows);
}

// How many positives each row of z has by labels, [count] int32; undefined without labels.
inline at::Tensor count_label_positives(const Operands& operands) {
  const at::Tensor& label = operands.label();
  if (!label.defined()) return {};
  const auto of = [&](Range part) { return label.narrow(0, part.begin, part.size()); };
  const auto among = [&](Range rows, Range columns) {
    const at::Tensor sorted = std::get<0>(at::sort(of(columns)));
    const at::Tensor own = of(rows);
    return at::searchsorted(sorted, own, /*out_int32=*/true, /*right=*/true) -
           at::searchsorted(sorted, own, /*out_int32=*/true, /*right=*/false);
  };
  const auto& [rows, columns] = operands.problem();
  if (operands.problem().same()) return among(columns, columns) - 1;
  return at::cat({among(rows, columns), among(columns, rows)});
}

}  // namespace simclr::fused
