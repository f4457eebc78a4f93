#include "cpu/products.h"

#include <ATen/Context.h>
#include <ATen/native/CPUBlas.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/mm.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <iterator>
#include <type_traits>
#include <utility>

#include "cpu/simd/kernels.h"

namespace simclr {
namespace {

// out [m, n] (+)= a [m, k] b [k, n]; the numbers after pointers are strides of rows.
void micro_kernel(int64_t m, int64_t n, int64_t k, const float* a, int64_t a_stride, const float* b,
                  int64_t b_stride, float* out, int64_t out_stride, bool add) {
  at::native::cpublas::brgemm(m, n, k, a_stride, b_stride, out_stride, add, a, b, out);
}

// Doubles have no micro-kernel; never called.
void micro_kernel(int64_t, int64_t, int64_t, const double*, int64_t, const double*, int64_t,
                  double*, int64_t, bool) {}

// torch has no query for this, so try it.
bool probe_micro_kernel() {
  const float one = 1;
  float result = 0;
  try {
    micro_kernel(1, 1, 1, &one, 1, &one, 1, &result, 1, false);
  } catch (const c10::Error&) {
    return false;
  }
  return result == 1;
}

template <typename T>
bool has_micro_kernel() {
  if (!std::is_same_v<T, float> || !at::globalContext().userEnabledMkldnn()) return false;
  static const bool available = probe_micro_kernel();
  return available;
}

}  // namespace

template <typename T>
Products<T>::Products(const Rows& rows, const Schedule& schedule, int64_t workers,
                      std::vector<Range> blocks, bool gradients)
    : rows_(rows), z_(rows.z), blocks_(std::move(blocks)), micro_(has_micro_kernel<T>()) {
  if (rows.are_halves()) {
    if (HalfProducts::available(dim())) {
      halves_.emplace(rows.z, rows.factor, schedule, workers, blocks_, gradients);
      return;
    }
    z_ = at::empty(z_.sizes(), rows.factor.options());
  }
  if (!micro_) return;
  transposed_ = at::empty({dim() * z_.size(0)}, z_.options());
  turned_ = at::empty({workers, std::min(dim(), kPanel), schedule.max_columns()}, z_.options());
}

template <typename T>
void Products<T>::prepare(Range block) {
  if constexpr (std::is_same_v<T, float>) {
    if (halves_) return halves_->prepare(block);
    if (rows_.are_halves()) {
      widen_rows(rows_, block, z_.template mutable_data_ptr<T>() + block.begin * dim());
    }
  }
  if (!micro_) return;
  simd::kernels<T>().transpose(
      z_.template const_data_ptr<T>() + block.begin * dim(), block.size(), dim(), dim(),
      transposed_.template mutable_data_ptr<T>() + block.begin * dim(), block.size());
}

template <typename T>
template <typename Visit>
void Products<T>::for_panels(const Visit& visit) const {
  for (int64_t d = 0; d < dim(); d += kPanel) visit(Range{d, std::min(d + kPanel, dim())});
}

template <typename T>
std::pair<const T*, int64_t> Products<T>::transposed(Range rows, int64_t d) const {
  const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), rows.begin,
                                      [](int64_t row, Range block) { return row < block.begin; });
  const Range block = *std::prev(after);
  const T* data = transposed_.template const_data_ptr<T>() + block.begin * dim();
  return {data + d * block.size() + rows.begin - block.begin, block.size()};
}

template <typename T>
at::Tensor Products<T>::as_tensor(Matrix<T> matrix) const {
  return at::from_blob(matrix.data, {matrix.rows, matrix.columns}, {matrix.stride, 1},
                       z_.options());
}

template <typename T>
void Products<T>::similarities(const Tile& place, Matrix<T> tile) const {
  if constexpr (std::is_same_v<T, float>) {
    if (halves_) return halves_->similarities(place, tile);
  }
  if (!micro_) {
    at::Tensor out = as_tensor(tile);
    at::mm_out(out, rows(place.rows), rows(place.columns).t());
    return;
  }
  if (!place.diagonal || place.rows.size() < kMinCut) {
    return multiply(place.rows, place.columns, tile);
  }
  const auto [upper, lower] = Schedule::halves(place.rows, 0);
  const Matrix<T> below = tile.narrow_rows(upper.size(), lower.size());
  multiply(upper, place.columns, tile.narrow_rows(0, upper.size()));
  multiply(lower, lower, below.narrow_columns(upper.size(), lower.size()));
  simd::kernels<T>().transpose(tile.data + upper.size(), upper.size(), lower.size(), tile.stride,
                               below.data, tile.stride);
}

template <typename T>
void Products<T>::multiply(Range rows, Range columns, Matrix<T> out) const {
  const T* z = z_.template const_data_ptr<T>() + rows.begin * dim();
  for_panels([&](Range d) {
    const auto [right, stride] = transposed(columns, d.begin);
    micro_kernel(out.rows, out.columns, d.size(), z + d.begin, dim(), right, stride, out.data,
                 out.stride, d.begin > 0);
  });
}

template <typename T>
void Products<T>::add_rows(Matrix<T> w, Range columns, Matrix<T> grad, int64_t worker) {
  if constexpr (std::is_same_v<T, float>) {
    if (halves_) return halves_->add_rows(w, columns, grad, worker);
  }
  if (!micro_) {
    as_tensor(grad).addmm_(as_tensor(w), rows(columns));
    return;
  }
  const T* z = z_.template const_data_ptr<T>() + columns.begin * dim();
  const int64_t most = dim() < kWide ? w.columns : kWideRows;
  for_panels([&](Range d) {
    for (int64_t k = 0; k < w.columns; k += most) {
      micro_kernel(w.rows, d.size(), std::min(most, w.columns - k), w.data + k, w.stride,
                   z + k * dim() + d.begin, dim(), grad.data + d.begin, grad.stride, true);
    }
  });
}

template <typename T>
void Products<T>::add_columns(Matrix<T> w, Range rows, Matrix<T> grad, int64_t worker) {
  if constexpr (std::is_same_v<T, float>) {
    if (halves_) return halves_->add_columns(w, rows, grad, worker);
  }
  if (!micro_) {
    as_tensor(grad).addmm_(as_tensor(w).t(), this->rows(rows));
    return;
  }
  // (W^T Z)^T = Z^T W, one panel at a time, which stays in L2 until it is added.
  T* turned = turned_.template mutable_data_ptr<T>() + worker * turned_.stride(0);
  for_panels([&](Range d) {
    const auto [z, stride] = transposed(rows, d.begin);
    micro_kernel(d.size(), w.columns, w.rows, z, stride, w.data, w.stride, turned, w.columns,
                 false);
    simd::kernels<T>().add_transposed(turned, d.size(), w.columns, w.columns, grad.data + d.begin,
                                      grad.stride);
  });
}

template class Products<float>;
template class Products<double>;

}  // namespace simclr
