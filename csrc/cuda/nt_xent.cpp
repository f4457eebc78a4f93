// The operators on CUDA tensors: what is allocated, and which kernels run on it.
//
// Beyond inputs and results, with M = 2N: forward, the partial sums of at most 65 strips
// (65 M floats; without a shared shift, 2 x 64 M) and N + M floats; backward, 4 M + N floats.

#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <array>
#include <numbers>
#include <tuple>

#include "checks.h"
#include "common/torch_compat.h"
#include "cuda/kernels.h"
#include "cuda/stream.h"
#include "simclr_ext.h"

namespace simclr::fused {
namespace {

constexpr int64_t kMaxRows = int64_t{1} << 30;
constexpr int64_t kUnitBytes = 16;
constexpr int64_t kMaxDim = 256;
// The exponents of two that the similarities of unit rows may span without underflow in float.
constexpr float kSafeRange = 115;

int64_t divide_up(int64_t x, int64_t y) { return (x + y - 1) / y; }

const Kernels& kernels_for(at::ScalarType dtype) {
  if (dtype == at::kBFloat16) return kBf16Kernels;
  if (dtype == at::kHalf) return kFp16Kernels;
  TORCH_CHECK_TYPE(dtype == at::kFloat,
                   "the fused CUDA kernels take float32, bfloat16 or float16, ", "got ", dtype,
                   "; the tiled backend takes it");
  return matmul_may_use_tf32() ? kTf32Kernels : kTf32x3Kernels;
}

// Similarities as exponents of two, and the shift that suits all of them, if one does.
struct Exponents {
  Exponents(double temperature, bool normalized)
      : scale(static_cast<float>(std::numbers::log2e / temperature)),
        shared_shift(normalized && 2 * scale <= kSafeRange),
        shift(shared_shift ? scale : 0) {}
  float scale;
  bool shared_shift;
  float shift;
};

// z: [2N, stride] contiguous, as padded by `padded`.
Rows make_rows(const at::Tensor& z, int64_t dim, const at::Tensor& factor) {
  return {.z = z.const_data_ptr(),
          .factor = factor.const_data_ptr<float>(),
          .count = static_cast<int>(z.size(0)),
          .pairs = static_cast<int>(z.size(0) / 2),
          .dim = static_cast<int>(dim),
          .stride = static_cast<int>(z.size(1))};
}

// The rows as the kernels copy them: contiguous, and beginning at a multiple of 16 bytes. Only
// those that somebody else copied are not.
at::Tensor in_units(const at::Tensor& z) {
  const at::Tensor contiguous = z.contiguous();
  const auto address = reinterpret_cast<uintptr_t>(contiguous.const_data_ptr());
  return address % kUnitBytes == 0 ? contiguous : contiguous.clone();
}

// The elements of a stored row: D, padded with zeros to whole units, which the kernels copy. The
// padding is part of the tensor z, so that a copy of it holds zeros there, too.
int64_t padded(int64_t dim, const at::Tensor& z) {
  const int64_t unit = kUnitBytes / z.element_size();
  return divide_up(dim, unit) * unit;
}

void check_size(int64_t rows, int64_t dim) {
  TORCH_CHECK_VALUE(dim <= kMaxDim, "the fused CUDA kernels take D <= ", kMaxDim, ", got ", dim,
                    "; the tiled backend takes it");
  TORCH_CHECK_VALUE(rows <= kMaxRows, "the fused CUDA kernels take N <= ", kMaxRows / 2, ", got ",
                    rows / 2);
}

ForwardResult forward(const at::Tensor& z0, const at::Tensor& z1, const at::Tensor& temperature,
                      bool normalize, double eps) {
  check_views(z0, z1);
  check_eps(eps);
  const int64_t n = z0.size(0);
  const int64_t dim = z0.size(1);
  check_size(2 * n, dim);
  const Exponents exponents(check_temperature(temperature), normalize);
  const Kernels& kernels = kernels_for(z0.scalar_type());
  const StreamGuard guard(z0);

  const auto floats = z0.options().dtype(at::kFloat);
  const int64_t stride = padded(dim, z0);
  const at::Tensor z = at::empty({2 * n, stride}, z0.options());
  const at::Tensor factor = at::empty({2 * n}, floats);
  const at::Tensor inv_norm = at::empty({normalize ? 2 * n : 0}, floats);
  kernels.prepare({.view = {z0.const_data_ptr(), z1.const_data_ptr()},
                   .row_stride = {z0.stride(0), z1.stride(0)},
                   .column_stride = {z0.stride(1), z1.stride(1)},
                   .pairs = static_cast<int>(n),
                   .dim = static_cast<int>(dim),
                   .stride = static_cast<int>(stride),
                   .normalize = normalize,
                   .eps = static_cast<float>(eps),
                   .z = z.mutable_data_ptr(),
                   .factor = factor.mutable_data_ptr<float>(),
                   .inv_norm = inv_norm.mutable_data_ptr<float>()},
                  guard.stream());

  const int64_t tile_rows = kernels.tile_rows(dim);
  const int64_t strip_rows = divide_up(2 * n, kMaxStrips * tile_rows) * tile_rows;
  const int64_t strips = divide_up(2 * n, strip_rows);
  const bool shared = exponents.shared_shift;
  const at::Tensor partial_sum = at::empty({strips + shared, 2 * n}, floats);
  const at::Tensor partial_max = at::empty({shared ? 0 : strips, 2 * n}, floats);
  const at::Tensor positive = at::empty({shared ? n : 2 * n}, floats);
  kernels.forward({.rows = make_rows(z, dim, factor),
                   .scale = exponents.scale,
                   .shift = exponents.shift,
                   .shared_shift = shared,
                   .strip_rows = static_cast<int>(strip_rows),
                   .strips = static_cast<int>(strips),
                   .partial_sum = partial_sum.mutable_data_ptr<float>(),
                   .partial_max = shared ? nullptr : partial_max.mutable_data_ptr<float>(),
                   .positive = positive.mutable_data_ptr<float>()},
                  guard.stream());

  at::Tensor loss = at::empty({2 * n}, floats);
  at::Tensor lse = at::empty({2 * n}, floats.dtype(at::kDouble));
  finish({.partial_sum = partial_sum.const_data_ptr<float>(),
          .partial_max = shared ? nullptr : partial_max.const_data_ptr<float>(),
          .positive = positive.const_data_ptr<float>(),
          .count = static_cast<int>(2 * n),
          .pairs = static_cast<int>(n),
          .strips = static_cast<int>(strips),
          .shift = exponents.shift,
          .loss = loss.mutable_data_ptr<float>(),
          .lse = lse.mutable_data_ptr<double>()},
         guard.stream());
  return {loss, lse, z, inv_norm};
}

std::tuple<at::Tensor, at::Tensor> backward(const at::Tensor& grad_loss, const at::Tensor& loss,
                                            const at::Tensor& lse, const at::Tensor& saved_z,
                                            const at::Tensor& inv_norm, int64_t dim,
                                            const at::Tensor& temperature,
                                            std::array<bool, 3> needs_grad) {
  check_pairs(saved_z);
  check_saved(grad_loss, loss, lse, saved_z, inv_norm, dim, "2N");
  const at::Tensor z = in_units(saved_z);
  check_size(z.size(0), dim);
  TORCH_CHECK_VALUE(z.size(1) == padded(dim, z), "z must be [2N, ", padded(dim, z), "], D = ", dim,
                    " padded to 16 bytes, got shape ", z.sizes());
  TORCH_CHECK_TYPE(loss.scalar_type() == at::kFloat && lse.scalar_type() == at::kDouble,
                   "loss must be float32 and lse float64, got ", loss.dtype(), " and ",
                   lse.dtype());
  const double temperature_value = check_temperature(temperature);
  const bool normalized = inv_norm.numel() > 0;
  const Exponents exponents(temperature_value, normalized);
  const Kernels& kernels = kernels_for(z.scalar_type());
  const StreamGuard guard(z);
  const auto [needs_z0, needs_z1, needs_temperature] = needs_grad;
  const int64_t rows = z.size(0);
  const int64_t n = rows / 2;
  const int64_t first_row = needs_z0 || needs_temperature ? 0 : n;
  const int64_t end_row = needs_z1 || needs_temperature ? rows : n;
  const auto doubles = z.options().dtype(at::kDouble);
  if (first_row == end_row) return {at::empty({0, dim}, z.options()), at::empty({0}, doubles)};

  const auto floats = z.options().dtype(at::kFloat);
  const at::Tensor grad_rows = grad_loss.to(at::kFloat);
  const at::Tensor dense_loss = loss.contiguous();
  const at::Tensor dense_lse = lse.contiguous();
  const at::Tensor dense_inv_norm = inv_norm.contiguous();
  const at::Tensor max_grad = at::zeros({1}, z.options().dtype(at::kInt));
  const at::Tensor terms = at::empty({3, rows}, floats);  // factor, weight, shift
  const at::Tensor positive_weight = at::empty({n}, floats);
  float* factor = terms.mutable_data_ptr<float>();
  float* weight = factor + rows;
  float* row_shift = weight + rows;
  auto* max_bits = static_cast<uint32_t*>(max_grad.mutable_data_ptr());
  const float* inv_norm_data = normalized ? dense_inv_norm.const_data_ptr<float>() : nullptr;
  make_terms({.grad_loss = grad_rows.const_data_ptr<float>(),
              .grad_loss_stride = grad_rows.stride(0),
              .loss = dense_loss.const_data_ptr<float>(),
              .lse = dense_lse.const_data_ptr<double>(),
              .inv_norm = inv_norm_data,
              .count = static_cast<int>(rows),
              .pairs = static_cast<int>(n),
              .shift = exponents.shift,
              .shared_shift = exponents.shared_shift,
              .max_grad = max_bits,
              .factor = factor,
              .weight = weight,
              .row_shift = row_shift,
              .positive_weight = positive_weight.mutable_data_ptr<float>()},
             guard.stream());

  at::Tensor grad_z = at::empty({end_row - first_row, dim}, z.options());
  const at::Tensor radial = at::empty({end_row - first_row}, floats);
  kernels.backward({.rows = make_rows(z, dim, terms),
                    .inv_norm = inv_norm_data,
                    .scale = exponents.scale,
                    .shift = exponents.shift,
                    .shared_shift = exponents.shared_shift,
                    .max_grad = max_bits,
                    .weight = weight,
                    .row_shift = row_shift,
                    .positive_weight = positive_weight.const_data_ptr<float>(),
                    .first_row = static_cast<int>(first_row),
                    .end_row = static_cast<int>(end_row),
                    .grad = grad_z.mutable_data_ptr(),
                    .radial = radial.mutable_data_ptr<float>()},
                   guard.stream());
  at::Tensor grad_temperature = needs_temperature
                                    ? radial.sum(at::kDouble).div_(-2 * temperature_value)
                                    : at::empty({0}, doubles);
  return {grad_z, grad_temperature};
}

}  // namespace

#ifdef SIMCLR_CUDA_HOST
TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) {
#else
TORCH_LIBRARY_IMPL(simclr_ext, CUDA, m) {
#endif
  m.impl("nt_xent_forward", forward);
  m.impl("nt_xent_backward", backward);
}

}  // namespace simclr::fused
