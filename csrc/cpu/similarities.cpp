#include "cpu/similarities.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/linalg_vector_norm.h>

#include <algorithm>
#include <limits>
#include <numbers>
#include <type_traits>
#include <utility>

#include "common/limits.h"

namespace simclr {
namespace {

template <typename T>
constexpr double kSafeRange = std::is_same_v<T, float> ? kSafeFloatRange : kSafeDoubleRange;

int64_t pad(int64_t columns) {
  return divide_up(columns, simd::kColumnPadding) * simd::kColumnPadding;
}

}  // namespace

template <typename T>
Exponents<T>::Exponents(const Rows& rows, double temperature)
    : scale(static_cast<T>(std::numbers::log2e / temperature)) {
  const auto max_of = [](const at::Tensor& z) {
    constexpr auto dtype = c10::CppTypeToScalarType<T>::value;
    return at::linalg_vector_norm(z, 2, {1}, false, dtype).max().template item<T>();
  };
  const T max_norm = rows.normalized() ? T(1) : max_of(rows.z);
  shift = max_norm * max_norm;
  shared = 2 * scale * shift <= kSafeRange<T>;  // false for NaN
}

template <typename T>
Similarities<T>::Similarities(const Rows& rows, const Problem& problem, const Pairing& pairing,
                              double temperature, bool gradients, Tiles tiles)
    : problem_(problem),
      pairing_(pairing),
      schedule_(problem),
      workers_(num_workers(schedule_)),
      blocks_(schedule_.all()),
      products_(rows, schedule_, workers_, blocks_, gradients),
      exponents_(rows, temperature),
      tiles_(tiles) {
  TORCH_INTERNAL_ASSERT(tiles == Tiles::kOnePerWorker || schedule_.max_rows() <= kGoodBlockRows);
  const int64_t all = schedule_.rows().count() * schedule_.columns().count();
  const int64_t slots = tiles == Tiles::kKept ? all : workers_;
  scratch_ = at::empty({slots, schedule_.max_rows(), pad(schedule_.max_columns())},
                       rows.inv_norm.options());
}

template <typename T>
int64_t Similarities<T>::slot(const Tile& tile, int64_t worker) const {
  if (tiles_ == Tiles::kOnePerWorker) return worker;
  const Blocks& columns = schedule_.columns();
  return schedule_.rows().find(tile.rows.begin) * columns.count() +
         columns.find(tile.columns.begin);
}

template <typename T>
Matrix<T> Similarities<T>::matrix(const Tile& tile, int64_t worker) const {
  T* first = scratch_.template mutable_data_ptr<T>() + slot(tile, worker) * scratch_.stride(0);
  return {first, tile.rows.size(), tile.columns.size(), scratch_.stride(1)};
}

template <typename T>
simd::TileData<T> Similarities<T>::tile(const Tile& place, int64_t worker) const {
  const Matrix<T> s = matrix(place, worker);
  return {s.data, s.rows, pad(s.columns), s.stride};
}

template <typename T>
simd::TileData<T> Similarities<T>::compute(const Tile& tile, int64_t worker) {
  constexpr T kMasked = -std::numeric_limits<T>::infinity();
  products_.similarities(tile, matrix(tile, worker));
  const int64_t columns = tile.columns.size();
  const simd::TileData<T> data = this->tile(tile, worker);
  // Some BLAS round s_ij and s_ji differently. Where exponents may be so large that this matters, a
  // row must see the same similarity that its lse was computed from.
  if (tile.diagonal && !exponents_.shared) {
    for (int64_t r = 1; r < data.rows; ++r) {
      for (int64_t c = 0; c < r; ++c) data.s[r * data.stride + c] = data.s[c * data.stride + r];
    }
  }
  for (int64_t r = 0; r < data.rows; ++r) {
    T* row = data.s + r * data.stride;
    std::fill(row + columns, row + data.columns, kMasked);
  }
  if (pairing_.skip_self) {
    const Range selves = intersect(tile.rows, tile.columns);
    for (int64_t i = selves.begin; i < selves.end; ++i) element(data, tile, i, i) = kMasked;
  }
  return data;
}

template struct Exponents<float>;
template struct Exponents<double>;
template class Similarities<float>;
template class Similarities<double>;

}  // namespace simclr
