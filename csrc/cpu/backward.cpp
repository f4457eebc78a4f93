// Gradients of sum_i g_i loss_i + h_i lse_i, with recomputed tiles of S:
//
//   dL/dx_i = sum_j W_ij y_j,  dL/dy_j = sum_i W_ij x_i,  W as in pair_weights.h

#include <ATen/Dispatch.h>

#include <vector>

#include "common/positives.h"
#include "cpu/gradients.h"
#include "cpu/pair_weights.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {
namespace {

// `rows` may be undefined: zeros.
std::vector<double> to_doubles(const at::Tensor& rows, int64_t count) {
  std::vector<double> values(count);
  if (!rows.defined()) return values;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kBFloat16, at::kHalf, rows.scalar_type(), "backward", [&] {
    const auto row = rows.accessor<const scalar_t, 1>();
    for (int64_t i = 0; i < count; ++i) values[i] = row[i];
  });
  return values;
}

// wanted: the rows of z whose gradient is returned.
Gradients backward(const at::Tensor& grad_loss, const at::Tensor& grad_lse, const at::Tensor& loss,
                   const at::Tensor& lse, const at::Tensor& z, const at::Tensor& inv_norm,
                   int64_t dim, const Operands& operands, const at::Tensor& temperature, double eps,
                   Range wanted, bool needs_temperature) {
  check_eps(eps);
  check_threads();
  check_unpadded(z, dim);
  check_stored(z, loss.scalar_type());
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const Problem& problem = operands.problem();
  return AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "backward", [&]() -> Gradients {
    const Rows rows = stored_rows(z, inv_norm);
    Similarities<scalar_t> s(rows, problem, operands.pairing(), temperature_value,
                             /*gradients=*/true);
    const auto doubles_of = [&](const at::Tensor& rows) { return to_doubles(rows, s.count()); };
    const auto grad_losses = doubles_of(grad_loss);
    const auto grad_lses = doubles_of(grad_lse);
    const auto losses = doubles_of(loss);
    const auto lses = doubles_of(lse);
    PairWeights<scalar_t> weights(s, count_positives(problem, operands.pairing()));
    const auto set_row = [&](int64_t i) {
      weights.set_row(i, grad_losses[i], grad_lses[i], losses[i], lses[i]);
    };
    const auto tile_of = [&](const Tile& tile, int64_t worker) { return s.compute(tile, worker); };
    RowGradients<scalar_t> grads(rows, wanted, eps);
    const auto [grad_z, grad_temperature] =
        gradients_of(s, tile_of, weights, set_row, grads, temperature_value, needs_temperature);
    return {grad_z.to(z.scalar_type()), grad_temperature};
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { register_backward<backward>(m); }

}  // namespace simclr
