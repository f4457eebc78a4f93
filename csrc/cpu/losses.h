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
#include "cpu/row_stats.h"
#include "cpu/row_sums.h"
#include "cpu/rows.h"
#include "cpu/similarities.h"
#include "entries.h"

namespace simclr {

// Normalizes rows that are to be, and writes loss and lse, [count] each, and on request the
// by-products.
template <typename T>
void sum_rows(Similarities<T>& s, const Rows& rows, double eps, T* loss, double* lse,
              const Stats* stats) {
  std::optional<RowStats<T>> row_stats;
  if (stats != nullptr) row_stats.emplace(s);
  RowSums<T> sums(s, count_positives(s.problem(), s.pairing()), row_stats ? &*row_stats : nullptr);
  const auto finish = [&](int64_t i) {
    const auto [row_lse, row_loss] = sums.finish(i);
    lse[i] = row_lse;
    loss[i] = static_cast<T>(row_loss);
    if (!row_stats) return;
    stats->positive.mutable_data_ptr<T>()[i] = sums.positive(i);
    row_stats->finish(i, sums.log2_sum(i), stats->hardest.mutable_data_ptr<T>() + i,
                      stats->hardest_index.mutable_data_ptr<int64_t>() + i,
                      stats->mean_similarity.mutable_data_ptr<double>() + i,
                      stats->near.mutable_data_ptr<double>() + i);
  };
  s.visit([&](Range part) { normalize_rows<T>(rows, part, eps); },
          [&](const Tile& tile, int64_t worker) { sums.add(s.compute(tile, worker), tile); },
          [&](Range part) {
            for (int64_t i = part.begin; i < part.end; ++i) finish(i);
          });
}

}  // namespace simclr
