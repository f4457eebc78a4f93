#include "cpu/half_products.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/limits.h"
#include "cpu/simd/kernels.h"

namespace simclr {
namespace {

using Half = at::BFloat16;

// A right operand [K, N] is packed in panels of this many columns, the width that oneDNN's AMX
// kernels take. Within a panel, pairs of rows are interleaved: [K / 2, kPanel, 2].
constexpr int64_t kPanel = 64;
// Elements of K that are multiplied at a time, so that both operands stay in L2.
constexpr int64_t kDepth = 512;

int64_t even(int64_t count) { return count + count % 2; }
int64_t packed_size(int64_t k, int64_t n) { return even(k) * divide_up(n, kPanel) * kPanel; }

const uint16_t* bits(const Half* values) { return reinterpret_cast<const uint16_t*>(values); }
uint16_t* bits(Half* values) { return reinterpret_cast<uint16_t*>(values); }

// out [m, n] (+)= a [m, k] b [k, n], for even k and b in panels. The columns of panel p begin at
// b + p panel_size.
void multiply(int64_t m, int64_t n, int64_t k, const Half* a, int64_t a_stride, const Half* b,
              int64_t panel_size, float* out, int64_t out_stride, bool add) {
  for (int64_t column = 0; column < n; column += kPanel) {
    at::native::cpublas::brgemm(m, std::min(kPanel, n - column), k, a_stride, kPanel, out_stride,
                                add, a, b + column / kPanel * panel_size, out + column);
  }
}

// torch has no query for this, and without AVX512-BF16 the micro-kernel would emulate it: so ask
// the processor, and try it.
bool probe() {
#ifdef __x86_64__
  __builtin_cpu_init();
  if (!__builtin_cpu_supports("avx512bf16")) return false;
  const Half ones[2] = {Half(1.0f), Half(1.0f)};
  Half packed[2 * kPanel] = {};
  std::copy(ones, ones + 2, packed);
  float result = 0;
  try {
    multiply(1, 1, 2, ones, 2, packed, 0, &result, 1, false);
  } catch (const c10::Error&) {
    return false;
  }
  return result == 2;
#else
  return false;
#endif
}

}  // namespace

bool HalfProducts::available(int64_t dim) {
  if (dim % 2 != 0 || !at::globalContext().userEnabledMkldnn()) return false;
  static const bool found = probe();
  return found;
}

HalfProducts::HalfProducts(at::Tensor z, at::Tensor factor, const Schedule& schedule,
                           int64_t workers, const std::vector<Range>& blocks, bool gradients)
    : z_(std::move(z)), factor_(std::move(factor)) {
  int64_t columns_size = 0;
  int64_t rows_size = 0;
  int64_t largest = 0;
  const auto add = [&](Range rows) {
    parts_.push_back({rows, columns_size, rows_size});
    columns_size += packed_size(dim(), rows.size());
    rows_size += packed_size(rows.size(), dim());
    largest = std::max(largest, rows.size());
  };
  for (const Range block : blocks) {
    const Schedule::Halves halves = Schedule::halves(block);
    add(halves.upper);
    if (halves.lower.size() > 0) add(halves.lower);
  }
  as_columns_ = at::empty({columns_size}, z_.options());
  if (gradients) {
    as_rows_ = at::empty({rows_size}, z_.options());
    const int64_t other = std::max(schedule.max_rows(), schedule.max_columns());
    weights_ = at::empty({workers, other * even(largest)}, z_.options());
  }
}

void HalfProducts::prepare(Range block) {
  for (const Part& part : parts(block)) pack(part);
}

void HalfProducts::pack(const Part& part) {
  const auto& kernels = simd::half_kernels();
  const Half* z = z_.const_data_ptr<Half>() + part.rows.begin * dim();
  const int64_t rows = part.rows.size();
  Half* to = as_columns_.mutable_data_ptr<Half>() + part.as_columns;
  for (int64_t r = 0; r < rows; r += kPanel, to += dim() * kPanel) {
    kernels.transpose_pairs(bits(z + r * dim()), std::min(kPanel, rows - r), dim(), bits(to),
                            kPanel);
  }
  if (!as_rows_.defined()) return;
  to = as_rows_.mutable_data_ptr<Half>() + part.as_rows;
  for (int64_t d = 0; d < dim(); d += kPanel, to += even(rows) * kPanel) {
    kernels.interleave_rows(bits(z + d), rows, std::min(kPanel, dim() - d), dim(), bits(to),
                            kPanel);
  }
}

std::vector<HalfProducts::Part> HalfProducts::parts(Range range) const {
  std::vector<Part> found;
  for (const Part& part : parts_) {
    if (range.contains(part.rows.begin)) found.push_back(part);
  }
  return found;
}

void HalfProducts::similarities(const Tile& place, Matrix<float> tile) const {
  const Half* rows = z_.const_data_ptr<Half>() + place.rows.begin * dim();
  for (const Part& part : parts(place.columns)) {
    const Half* columns = as_columns_.const_data_ptr<Half>() + part.as_columns;
    float* out = tile.data + part.rows.begin - place.columns.begin;
    for (int64_t d = 0; d < dim(); d += kDepth) {
      multiply(tile.rows, part.rows.size(), std::min(kDepth, dim() - d), rows + d, dim(),
               columns + d * kPanel, dim() * kPanel, out, tile.stride, d > 0);
    }
  }
  simd::half_kernels().scale(tile.data, tile.rows, tile.columns, tile.stride,
                             factor(place.rows.begin), factor(place.columns.begin));
}

void HalfProducts::add_rows(Matrix<float> w, Range columns, Matrix<float> grad, int64_t worker) {
  Half* weights = weights_.mutable_data_ptr<Half>() + worker * weights_.stride(0);
  for (const Part& part : parts(columns)) {
    const int64_t stride = even(part.rows.size());
    simd::half_kernels().round_rows(w.data + part.rows.begin - columns.begin, w.rows,
                                    part.rows.size(), w.stride, factor(part.rows.begin),
                                    bits(weights), stride);
    add_weighted(weights, stride, part, grad);
  }
}

void HalfProducts::add_columns(Matrix<float> w, Range rows, Matrix<float> grad, int64_t worker) {
  Half* weights = weights_.mutable_data_ptr<Half>() + worker * weights_.stride(0);
  for (const Part& part : parts(rows)) {
    const int64_t stride = even(part.rows.size());
    simd::half_kernels().round_transposed(w.data + (part.rows.begin - rows.begin) * w.stride,
                                          part.rows.size(), w.columns, w.stride,
                                          factor(part.rows.begin), bits(weights), stride);
    add_weighted(weights, stride, part, grad);
  }
}

void HalfProducts::add_weighted(const Half* weights, int64_t weight_stride, const Part& part,
                                Matrix<float> grad) const {
  multiply(grad.rows, dim(), weight_stride, weights, weight_stride,
           as_rows_.const_data_ptr<Half>() + part.as_rows, weight_stride * kPanel, grad.data,
           grad.stride, true);
}

}  // namespace simclr
