// The products of the backward passes over wide rows.
//
// Memory beyond inputs and results: a tile of S, for half types one of W too, and G, a float for
// every element of the rows whose gradient is wanted.

#include <ATen/ops/zeros.h>

#include "common/plain_dispatch.h"
#include "cuda/wide.h"

namespace simclr::fused {

at::Tensor add_weighted_rows(const at::Tensor& z, const Problem& problem, Range wanted,
                             c10::function_ref<void(const WideTile& tile, void* w)> weigh) {
  const PlainDispatch guard;
  const WideTiles tiles(z, problem, problem.symmetric());
  const at::Tensor weights = tiles.weights();
  const at::Tensor sum = at::zeros({wanted.size(), z.size(1)}, z.options().dtype(at::kFloat));
  const auto of = [&](Range part) { return sum.narrow(0, part.begin - wanted.begin, part.size()); };
  for (const Tile& place : tiles.places()) {
    const Range rows = intersect(place.rows, wanted);
    // In a rank's share, columns are rows of other tiles.
    const Range columns =
        problem.has_column_results() ? intersect(place.columns, wanted) : Range{0, 0};
    if (rows.size() == 0 && columns.size() == 0) continue;
    weigh(tiles.multiply(place), weights.mutable_data_ptr());
    const at::Tensor w = WideTiles::matrix(weights, place);
    if (rows.size() > 0) {
      const at::Tensor part = w.narrow(0, rows.begin - place.rows.begin, rows.size());
      add_product(of(rows), part, tiles.rows(place.columns));
    }
    if (columns.size() > 0) {
      const at::Tensor part = w.narrow(1, columns.begin - place.columns.begin, columns.size());
      add_product(of(columns), part.t(), tiles.rows(place.rows));
    }
  }
  return sum;
}

}  // namespace simclr::fused
