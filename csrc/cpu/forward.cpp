// The forward pass: rows are joined and normalized, losses.h does the rest.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include "cpu/losses.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {
namespace {

ForwardResult run_forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                          const at::Tensor& temperature, bool normalize, double eps,
                          const Stats* stats) {
  check_eps(eps);
  check_threads();
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const Problem& problem = operands.problem();
  const auto options = x.options().dtype(compute_dtype(x));
  at::Tensor loss = at::empty({problem.count()}, options);
  at::Tensor lse = at::empty({problem.count()}, options.dtype(at::kDouble));
  return AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "forward", [&]() -> ForwardResult {
    const Rows rows = join_rows<scalar_t>(x, y, normalize);
    Similarities<scalar_t> s(rows, problem, operands.pairing(), temperature_value,
                             /*gradients=*/false);
    sum_rows(s, rows, eps, loss.mutable_data_ptr<scalar_t>(), lse.mutable_data_ptr<double>(),
             stats);
    return {operands.results(loss), operands.results(lse), rows.z, rows.inv_norm};
  });
}

ForwardResult forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                      const at::Tensor& temperature, bool normalize, double eps) {
  return run_forward(x, y, operands, temperature, normalize, eps, nullptr);
}

ForwardResult forward_stats(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                            const at::Tensor& temperature, bool normalize, double eps,
                            const Stats& stats) {
  return run_forward(x, y, operands, temperature, normalize, eps, &stats);
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) {
  register_forward<forward>(m);
  register_stats<forward_stats>(m);
}

}  // namespace simclr
