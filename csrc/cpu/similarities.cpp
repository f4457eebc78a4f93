#include "cpu/similarities.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <algorithm>
#include <limits>
#include <numbers>
#include <type_traits>
#include <utility>

#include "cpu/parallel.h"

namespace simclr {
namespace {

// How many powers of two 2^x may span: floats go down to 2^-126, doubles to 2^-1022.
template <typename T>
constexpr double kSafeRange = std::is_same_v<T, float> ? 115 : 1000;

int64_t pad(int64_t columns) {
  return (columns + simd::kColumnPadding - 1) / simd::kColumnPadding * simd::kColumnPadding;
}

}  // namespace

template <typename T>
Similarities<T>::Similarities(at::Tensor z, double temperature, bool normalized)
    : z_(std::move(z)),
      blocks_(z_.size(0)),
      products_(z_, blocks_),
      scale_(static_cast<T>(std::numbers::log2e / temperature)) {
  const T max_norm =
      normalized ? T(1) : at::linalg_vector_norm(z_, 2, {1}).max().template item<T>();
  shared_shift_ = max_norm * max_norm;
  has_shared_shift_ = 2 * scale_ * shared_shift_ <= kSafeRange<T>;  // false for NaN
  const int64_t rows = blocks_.max_rows();
  scratch_ = at::empty({num_workers(blocks_), rows, pad(rows)}, z_.options());
}

template <typename T>
at::Tensor Similarities<T>::matrix(const Tile& tile) const {
  const int64_t offset = at::get_thread_num() * scratch_.stride(0);
  return scratch_.as_strided({tile.rows.size(), tile.columns.size()}, {scratch_.stride(1), 1},
                             offset);
}

template <typename T>
simd::TileData<T> Similarities<T>::compute(const Tile& tile) {
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  at::Tensor out = matrix(tile);
  products_.similarities(tile, out);

  const int64_t columns = tile.columns.size();
  const simd::TileData<T> data{out.template mutable_data_ptr<T>(), tile.rows.size(), pad(columns),
                               out.stride(0)};
  // Some BLAS round s_ij and s_ji differently. Where exponents may be so large that this matters, a
  // row must not see another similarity than the one that its lse is made of.
  if (tile.diagonal() && !has_shared_shift_) {
    for (int64_t r = 1; r < data.rows; ++r) {
      for (int64_t c = 0; c < r; ++c) data.s[r * data.stride + c] = data.s[c * data.stride + r];
    }
  }
  for (int64_t r = 0; r < data.rows; ++r) {
    T* row = data.s + r * data.stride;
    std::fill(row + columns, row + data.columns, kMasked);
    if (tile.diagonal()) row[r] = kMasked;
  }
  return data;
}

template <typename T>
Range Similarities<T>::rows_with_positive(const Tile& tile) const {
  return intersect(tile.rows, {tile.columns.begin - num_pairs(), tile.columns.end - num_pairs()});
}

template <typename T>
T& Similarities<T>::positive(const simd::TileData<T>& data, const Tile& tile, int64_t i) const {
  return data.s[(i - tile.rows.begin) * data.stride + i + num_pairs() - tile.columns.begin];
}

template <typename T>
T& Similarities<T>::mirrored_positive(const simd::TileData<T>& data, const Tile& tile,
                                      int64_t i) const {
  return data.s[(i + num_pairs() - tile.rows.begin) * data.stride + i - tile.columns.begin];
}

template class Similarities<float>;
template class Similarities<double>;

}  // namespace simclr
