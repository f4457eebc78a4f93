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
#include "cpu/parallel.h"
#include "cpu/row_gradients.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {

// Adds the products with all weights to the gradients; tile_of(tile, worker) returns a tile of S.
template <typename T, typename TileOf>
void accumulate(Similarities<T>& s, const TileOf& tile_of, const PairWeights<T>& weights,
                const RowGradients<T>& grads) {
  visit_tiles(s.schedule(), s.workers(), [&](const Tile& tile, int64_t worker) {
    const Range rows = intersect(tile.rows, grads.wanted);
    const bool of_columns = s.problem().has_column_results() && !tile.diagonal;
    const Range columns = of_columns ? intersect(tile.columns, grads.wanted) : Range{0, 0};
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
  });
}

// Returns the gradients of the raw rows `wanted`, in the compute dtype, and of the temperature.
template <typename T, typename TileOf>
Gradients gradients_of(Similarities<T>& s, const TileOf& tile_of, const PairWeights<T>& weights,
                       const Rows& rows, double eps, Range wanted, double temperature,
                       bool needs_temperature) {
  const auto options = rows.inv_norm.options();
  const auto doubles = options.dtype(at::kDouble);
  const RowGradients<T> grads(wanted, rows.z.size(1), options);
  if (wanted.size() == 0) return {grads.grad_z, at::empty({0}, doubles)};
  accumulate(s, tile_of, weights, grads);
  const double radial =
      undo_normalization<T>(rows, eps, s.blocks(), wanted, s.problem().rows, grads.grad_z);
  if (!needs_temperature) return {grads.grad_z, at::empty({0}, doubles)};
  const double times = s.problem().same() ? 2 : 1;  // how often a pair is in the sum
  return {grads.grad_z, at::scalar_tensor(-radial / (times * temperature), doubles)};
}

}  // namespace simclr
