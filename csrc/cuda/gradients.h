// What the backward passes have in common: from the weights of pairs to the gradient of the rows.

#pragma once

#include <ATen/ops/empty.h>

#include "cuda/host.h"
#include "cuda/wide.h"

namespace simclr::fused {

// The strips of a side, and memory for its partial gradients.
struct SideGradients {
  SideGradients(const BackwardParams& p, bool transposed, TileShape tile,
                const at::TensorOptions& floats) {
    if (transposed && p.problem.same()) return;
    const Problem problem = transposed ? p.problem.transposed() : p.problem;
    // For all rows, so that the bits of those that are wanted do not depend on the others.
    params.strips = backward_strips(problem.rows, problem.columns, tile, kGrid);
    params.rows = intersect(problem.rows, p.wanted);
    memory = at::empty({params.strips.count, params.rows.size(), p.rows.stride}, floats);
    params.partial = memory.mutable_data_ptr<float>();
  }
  PartialGradients params;
  at::Tensor memory;
};

// Computes the gradient of the wanted rows of z, and z_i . dL/dz_i.
//
// p: all but the results and the partial gradients.
// grad_z, radial: of the rows that are wanted.
// add(p): launches the partial gradients of rows that are not wide, and their sum.
// weigh(p), finish(p): of wide rows, turn a tile of S into weights, and sums into gradients.
template <typename Add, typename Weigh, typename Finish>
void compute_gradient(BackwardParams p, const at::Tensor& z, const Kernels& kernels,
                      const at::Tensor& grad_z, const at::Tensor& radial, const Add& add,
                      const Weigh& weigh, const Finish& finish) {
  p.grad = grad_z.mutable_data_ptr();
  p.radial = radial.mutable_data_ptr<float>();
  if (is_wide(p.rows.dim)) {
    const at::Tensor weighted = add_weighted_rows(
        z, p.problem, p.wanted,
        [&](const WideTile& tile, void* w) { weigh(WideWeightsParams{p, tile, w}); });
    return finish(WideGradientParams{p, weighted.mutable_data_ptr<float>()});
  }
  const TileShape tile = kernels.backward_tile(p.rows.dim);
  const SideGradients of_rows(p, false, tile, radial.options());
  const SideGradients of_columns(p, true, tile, radial.options());
  p.of_rows = of_rows.params;
  p.of_columns = of_columns.params;
  add(p);
}

}  // namespace simclr::fused
