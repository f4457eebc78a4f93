// Losses of all rows in one pass over the tiles of S:
//
//   lse_i  = log sum_j exp(s_ij / T) over the terms of row i,
//   loss_i = lse_i - mean of s_ij / T over the positives of i
//
// Each tile adds its row sums to the rows of one block and its column sums to those of the other. A
// symmetric S is visited only on and above its diagonal.

#include <ATen/Dispatch.h>
#include <ATen/ops/empty.h>

#include "common/positives.h"
#include "cpu/parallel.h"
#include "cpu/row_sums.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {
namespace {

// Writes loss and lse, [count] each.
template <typename T>
void sum_rows(Similarities<T> s, T* loss, double* lse) {
  RowSums<T> sums(s, count_positives(s.problem(), s.pairing()));
  visit_tiles(s.schedule(),
              [&](const Tile& tile, int64_t worker) { sums.add(s.compute(tile, worker), tile); });
  visit_blocks(s.blocks(), kScalarCost, [&](Range rows) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const auto [row_lse, row_loss] = sums.finish(i);
      lse[i] = row_lse;
      loss[i] = static_cast<T>(row_loss);
    }
  });
}

ForwardResult forward(const at::Tensor& x, const at::Tensor& y, const Operands& operands,
                      const at::Tensor& temperature, bool normalize, double eps) {
  check_eps(eps);
  const double temperature_value = check_temperature(temperature);
  const PlainDispatch guard;
  const Problem& problem = operands.problem();
  const auto options = x.options().dtype(compute_dtype(x));
  at::Tensor loss = at::empty({problem.count()}, options);
  at::Tensor lse = at::empty({problem.count()}, options.dtype(at::kDouble));
  return AT_DISPATCH_FLOATING_TYPES(loss.scalar_type(), "forward", [&]() -> ForwardResult {
    const auto [z, inv_norm] = join_rows<scalar_t>(x, y, Schedule(problem).all(), normalize, eps);
    sum_rows<scalar_t>({z, problem, operands.pairing(), temperature_value, normalize},
                       loss.mutable_data_ptr<scalar_t>(), lse.mutable_data_ptr<double>());
    return {operands.results(loss), operands.results(lse), z, inv_norm};
  });
}

}  // namespace

TORCH_LIBRARY_IMPL(simclr_ext, CPU, m) { register_forward<forward>(m); }

}  // namespace simclr
