// Gradients of the rows and of the temperature, given the weights of pairs.
//
// A symmetric W serves both rows of a pair: the tile of blocks (a, b) adds to dZ_a and to dZ_b.
// The temperature's gradient is a by-product of normalizing: dL/dT = -1/T sum_i x_i . dL/dx_i, and
// half of that where rows and columns are the same.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/scalar_tensor.h>

#include "cpu/pair_weights.h"
#include "cpu/row_gradients.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {

// Returns the gradients of the raw rows that are wanted, in the compute dtype, and on request that
// of the temperature. tile_of(tile, worker) returns a tile of S; set_row(i) sets the weights of a
// row.
template <typename T, typename TileOf, typename SetRow>
Gradients gradients_of(Similarities<T>& s, const TileOf& tile_of, const PairWeights<T>& weights,
                       const SetRow& set_row, RowGradients<T>& grads, double temperature,
                       bool needs_temperature) {
  const auto before = [&](Range rows) {
    for (int64_t i = rows.begin; i < rows.end; ++i) set_row(i);
    grads.clear(rows);
  };
  const auto visit = [&](const Tile& tile, int64_t worker) {
    const Range rows = grads.wanted(tile.rows);
    const bool of_columns = s.problem().has_column_results() && !tile.diagonal;
    const Range columns = of_columns ? grads.wanted(tile.columns) : Range{0, 0};
    if (rows.size() + columns.size() == 0) return;
    weights.apply(tile_of(tile, worker), tile);
    const Matrix<T> w = s.matrix(tile, worker);
    if (rows.size() > 0) {
      const Matrix<T> part = w.narrow_rows(rows.begin - tile.rows.begin, rows.size());
      s.products().add_rows(part, tile.columns, grads.of(rows), worker);
    }
    if (columns.size() > 0) {
      const Matrix<T> part = w.narrow_columns(columns.begin - tile.columns.begin, columns.size());
      s.products().add_columns(part, tile.rows, grads.of(columns), worker);
    }
  };
  const auto after = [&](Range rows) { grads.finish(rows); };
  const auto doubles = grads.tensor().options().dtype(at::kDouble);
  if (grads.tensor().size(0) > 0) s.visit(before, visit, after);
  if (!needs_temperature) return {grads.tensor(), at::empty({0}, doubles)};
  const double times = s.problem().same() ? 2 : 1;  // how often a pair is in the sum
  const double radial = grads.radial(s.problem().rows);
  return {grads.tensor(), at::scalar_tensor(-radial / (times * temperature), doubles)};
}

}  // namespace simclr
