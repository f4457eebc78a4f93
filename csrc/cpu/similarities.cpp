#include "cpu/similarities.h"

#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <type_traits>

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
Similarities<T>::Similarities(const at::Tensor& z0, const at::Tensor& z1, double temperature,
                              bool normalize, double eps)
    : num_pairs_(z0.size(0)),
      blocks_(num_rows()),
      scale_(static_cast<T>(std::numbers::log2e / temperature)) {
  const auto options = z0.options().dtype(c10::CppTypeToScalarType<T>::value);
  z_ = at::empty({num_rows(), z0.size(1)}, options);
  at::cat_out(z_, {z0, z1});
  if (normalize) {
    this->normalize(eps);
    shared_shift_ = 1;
  } else {
    const T max_norm = at::linalg_vector_norm(z_, 2, {1}).max().template item<T>();
    shared_shift_ = max_norm * max_norm;
  }
  has_shared_shift_ = 2 * scale_ * shared_shift_ <= kSafeRange<T>;  // false for NaN

  for (int64_t b = 0; b < blocks_.count(); ++b) {
    z_blocks_.push_back(z_.narrow(0, blocks_[b].begin, blocks_[b].size()));
  }
  const int64_t threads = std::min<int64_t>(at::get_num_threads(), blocks_.count());
  scratch_ = at::empty({threads, blocks_.max_rows(), pad(blocks_.max_rows())}, options);
}

template <typename T>
void Similarities<T>::normalize(double eps) {
  inv_norm_.resize(num_rows());
  T* z = z_.template mutable_data_ptr<T>();
  visit_blocks(blocks_, [&](int64_t b) {
    const Range rows = blocks_[b];
    simd::kernels<T>().normalize_rows(z + rows.begin * dim(), rows.size(), dim(), eps,
                                      &inv_norm_[rows.begin]);
  });
}

template <typename T>
at::Tensor Similarities<T>::matrix(BlockPair pair) const {
  const int64_t offset = at::get_thread_num() * scratch_.stride(0);
  return scratch_.as_strided({blocks_[pair.a].size(), blocks_[pair.b].size()},
                             {scratch_.stride(1), 1}, offset);
}

template <typename T>
simd::Tile<T> Similarities<T>::tile(BlockPair pair) {
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  at::Tensor out = matrix(pair);
  at::mm_out(out, z_blocks_[pair.a], z_blocks_[pair.b].t());

  const int64_t columns = out.size(1);
  const simd::Tile<T> tile{out.template mutable_data_ptr<T>(), out.size(0), pad(columns),
                           out.stride(0)};
  for (int64_t r = 0; r < tile.rows; ++r) {
    T* row = tile.s + r * tile.stride;
    std::fill(row + columns, row + tile.columns, kMasked);
    if (pair.diagonal()) row[r] = kMasked;
  }
  return tile;
}

template <typename T>
Range Similarities<T>::rows_with_positive(BlockPair pair) const {
  const Range columns = blocks_[pair.b];
  return intersect(blocks_[pair.a], {columns.begin - num_pairs_, columns.end - num_pairs_});
}

template <typename T>
T& Similarities<T>::positive(const simd::Tile<T>& tile, BlockPair pair, int64_t i) const {
  const int64_t row = i - blocks_[pair.a].begin;
  const int64_t column = i + num_pairs_ - blocks_[pair.b].begin;
  return tile.s[row * tile.stride + column];
}

template <typename T>
T& Similarities<T>::mirrored_positive(const simd::Tile<T>& tile, BlockPair pair, int64_t i) const {
  const int64_t row = i + num_pairs_ - blocks_[pair.a].begin;
  const int64_t column = i - blocks_[pair.b].begin;
  return tile.s[row * tile.stride + column];
}

template class Similarities<float>;
template class Similarities<double>;

}  // namespace simclr
