// What the backward passes have in common: from the weights of pairs to the gradient of the rows.

#pragma once

#include <ATen/ops/empty.h>

#include "cuda/host.h"
#include "cuda/wide.h"

namespace simclr::fused {

// Computes the gradient of the rows of z, and z_i . dL/dz_i, by the problem's rows and, if they are
// others, by its columns.
//
// p: all but what differs between rows and columns.
// grad_z, radial: of the rows that are wanted.
// add(p): launches the partial gradients of rows that are not wide, and their sum.
// weigh(p), finish(p): of wide rows, turn a tile of S into weights, and sums into gradients.
template <typename Add, typename Weigh, typename Finish>
void compute_gradient(BackwardParams p, const at::Tensor& z, int64_t dim, Range wanted,
                      const Kernels& kernels, const at::Tensor& grad_z, const at::Tensor& radial,
                      const Add& add, const Weigh& weigh, const Finish& finish) {
  at::Tensor weighted;  // sums of the weighted columns, of wide rows
  if (is_wide(dim)) {
    weighted = add_weighted_rows(z, p.problem, wanted, [&](const WideTile& part, void* w) {
      weigh(WideWeightsParams{p, part, w});
    });
  }
  const auto run = [&](Problem problem, const Pairing& pairing) {
    const Range all = problem.rows;
    problem.rows = intersect(all, wanted);
    if (problem.rows.size() == 0) return;
    const int64_t place = problem.rows.begin - wanted.begin;
    p.problem = problem;
    p.pairing = pairing;
    p.grad = grad_z.select(0, place).mutable_data_ptr();
    p.radial = radial.mutable_data_ptr<float>() + place;
    if (is_wide(dim)) {
      finish(WideGradientParams{p, weighted.select(0, place).mutable_data_ptr<float>()});
      return;
    }
    // For all rows, so that the bits of those that are wanted do not depend on the others.
    p.strips = backward_strips(all, problem.columns, kernels.tile(dim), kGrid);
    const at::Tensor partial =
        at::empty({p.strips.count, problem.rows.size(), z.size(1)}, radial.options());
    p.partial = partial.mutable_data_ptr<float>();
    add(p);
  };
  const Problem problem = p.problem;
  const Pairing pairing = p.pairing;
  run(problem, pairing);
  if (!problem.same()) run(problem.transposed(), pairing.transposed());
}

}  // namespace simclr::fused
