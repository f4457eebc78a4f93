// The matrix S = X Y^T of a problem's rows and columns, in tiles.

#pragma once

#include <ATen/core/Tensor.h>

#include <limits>

#include "common/pairing.h"
#include "common/schedule.h"
#include "cpu/matrix.h"
#include "cpu/parallel.h"
#include "cpu/products.h"
#include "cpu/simd/kernels.h"

namespace simclr {

// Base-2 logits x = scale s. If `shared`, all |s| <= shift, and the shift is so small that
// 2^(scale (s - shift)) cannot underflow: one shift then serves all rows, and one exponential both
// rows of a pair.
template <typename T>
struct Exponents {
  Exponents(const Rows& rows, double temperature);

  T scale;  // log2(e) / temperature
  T shift;
  bool shared;
};

// Whether a worker's next tile takes the memory of its last one, or all tiles stay in memory: of
// problems with few rows, whose diagonal tiles are not cut.
enum class Tiles { kOnePerWorker, kKept };

template <typename T>
class Similarities {
 public:
  // rows: those of the problem; `gradients`: whether the products with weights will be needed.
  Similarities(const Rows& rows, const Problem& problem, const Pairing& pairing, double temperature,
               bool gradients, Tiles tiles = Tiles::kOnePerWorker);

  const Problem& problem() const { return problem_; }
  const Pairing& pairing() const { return pairing_; }
  const Exponents<T>& exponents() const { return exponents_; }
  int64_t count() const { return problem_.count(); }  // rows of z
  Products<T>& products() { return products_; }

  // visit_tiles of all its tiles. The first time the rows are prepared for the products, after
  // before(rows): until then they need not be normalized.
  template <typename Before, typename Visit, typename After>
  void visit(const Before& before, const Visit& visit, const After& after) {
    const auto prepare = [&](Range rows) {
      before(rows);
      if (!prepared_) products_.prepare(rows);
    };
    visit_tiles(schedule_, blocks_, workers_, prepare, visit, after);
    prepared_ = true;
  }

  // Computes a tile: pairs that do not count and padding are -inf. Valid until the worker's next
  // call, if tiles are not kept.
  simd::TileData<T> compute(const Tile& tile, int64_t worker);
  // A tile that was computed, as it is in memory now.
  simd::TileData<T> tile(const Tile& place, int64_t worker) const;
  // The same tile without the padding.
  Matrix<T> matrix(const Tile& tile, int64_t worker) const;

 private:
  // The memory of a tile in scratch_.
  int64_t slot(const Tile& tile, int64_t worker) const;

  Problem problem_;
  Pairing pairing_;
  Schedule schedule_;
  int64_t workers_;
  std::vector<Range> blocks_;  // of all rows of z
  Products<T> products_;
  Exponents<T> exponents_;
  Tiles tiles_;
  bool prepared_ = false;
  at::Tensor scratch_;  // [slots, rows of a block, columns of a block, padded]
};

// The element of a tile that pairs row i with column j.
template <typename T>
T& element(const simd::TileData<T>& data, const Tile& tile, int64_t i, int64_t j) {
  return data.s[(i - tile.rows.begin) * data.stride + j - tile.columns.begin];
}

// Sets the pairs of a tile that are not terms of the log-sum-exp to -inf.
template <typename T>
void leave_out(const simd::TileData<T>& data, const Tile& tile, const Pairing& pairing) {
  if (!pairing.leaves_out()) return;
  pairing.for_each_left_out(tile, [&](int64_t i, int64_t j) {
    element(data, tile, i, j) = -std::numeric_limits<T>::infinity();
  });
}

extern template struct Exponents<float>;
extern template struct Exponents<double>;
extern template class Similarities<float>;
extern template class Similarities<double>;

}  // namespace simclr
