// NT-Xent losses of a small batch and the gradients of their sum in one operator: S stays in
// memory, and its products and the transposed rows are computed once. The results are those of the
// two passes, bit for bit.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include <vector>

#include "common/positives.h"
#include "cpu/gradients.h"
#include "cpu/losses.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {
namespace {

template <typename T>
ValueAndGrad compute(const Rows& rows, const Operands& operands, double temperature, double eps,
                     double grad_loss, std::array<bool, 3> needs_grad) {
  const int64_t count = operands.problem().count();
  Similarities<T> s(rows, operands.problem(), operands.pairing(), temperature, /*gradients=*/true,
                    Tiles::kKept);
  at::Tensor losses = at::empty({count}, rows.inv_norm.options());
  T* loss = losses.template mutable_data_ptr<T>();
  std::vector<double> lse(count);
  sum_rows(s, rows, eps, loss, lse.data(), nullptr);
  PairWeights<T> weights(s, count_positives(operands.problem(), operands.pairing()));
  const auto set_row = [&](int64_t i) {
    weights.set_row(i, static_cast<T>(grad_loss), 0, loss[i], lse[i]);
  };
  const auto tile_of = [&](const Tile& tile, int64_t worker) { return s.tile(tile, worker); };
  RowGradients<T> grads(rows, wanted_views(count / 2, needs_grad), eps);
  const auto [grad_z, grad_temperature] =
      gradients_of(s, tile_of, weights, set_row, grads, temperature, needs_grad[2]);
  return {losses, grad_z, grad_temperature};
}

ValueAndGrad value_and_grad(const at::Tensor& z0, const at::Tensor& z1,
                            const at::Tensor& temperature, bool normalize, double eps,
                            double grad_loss, std::array<bool, 3> needs_grad) {
  check_views(z0, z1);
  TORCH_CHECK_VALUE(z0.size(0) <= kMaxPairsAtOnce, "z0 must have at most ", kMaxPairsAtOnce,
                    " rows here, got ", z0.size(0));
  check_eps(eps);
  check_threads();
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const Operands operands = Operands::nt_xent(z0.size(0));
  return AT_DISPATCH_FLOATING_TYPES(compute_dtype(z0), "value_and_grad", [&] {
    const Rows rows = join_rows<scalar_t>(z0, z1, normalize);
    return compute<scalar_t>(rows, operands, temperature_value, eps, grad_loss, needs_grad);
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { m.impl("nt_xent_value_and_grad", value_and_grad); }

}  // namespace simclr
