// Losses of all rows in one pass over the tiles of S:
//
//   lse_i  = log sum_j exp(s_ij / T) over the terms of row i,
//   loss_i = lse_i - mean of s_ij / T over the positives of i
//
// Each tile adds its row sums to the rows of one block and its column sums to those of the other. A
// symmetric S is visited only on and above its diagonal.

#pragma once

#include <optional>

#include "common/positives.h"
#include "cpu/parallel.h"
#include "cpu/row_stats.h"
#include "cpu/row_sums.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {

// Writes loss and lse, [count] each, and on request the by-products.
template <typename T>
void sum_rows(Similarities<T>& s, T* loss, double* lse, const Stats* stats) {
  std::optional<RowStats<T>> row_stats;
  if (stats != nullptr) row_stats.emplace(s);
  RowSums<T> sums(s, count_positives(s.problem(), s.pairing()), row_stats ? &*row_stats : nullptr);
  visit_tiles(s.schedule(), s.workers(),
              [&](const Tile& tile, int64_t worker) { sums.add(s.compute(tile, worker), tile); });
  visit_blocks(s.blocks(), kScalarCost, [&](Range rows) {
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      const auto [row_lse, row_loss] = sums.finish(i);
      lse[i] = row_lse;
      loss[i] = static_cast<T>(row_loss);
      if (!row_stats) continue;
      stats->positive.mutable_data_ptr<T>()[i] = sums.positive(i);
      row_stats->finish(i, sums.log2_sum(i), stats->hardest.mutable_data_ptr<T>() + i,
                        stats->hardest_index.mutable_data_ptr<int64_t>() + i,
                        stats->mean_similarity.mutable_data_ptr<double>() + i,
                        stats->near.mutable_data_ptr<double>() + i);
    }
  });
}

}  // namespace simclr
