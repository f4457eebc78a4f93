// By-products of the forward pass per row of a tile in device memory: see row_stats.cuh.

#pragma once

#include "cuda/row_stats.cuh"
#include "cuda/wide_sums.cuh"

namespace simclr::fused {

class WideRowStats : WideShape {
 public:
  static constexpr bool kSumsPositives = true;
  static constexpr int kSharedBytes = 0;

  explicit SIMCLR_DEVICE WideRowStats(const WideStatsForwardParams& p)
      : p_(p), pass_(p.pass.pass) {}

  SIMCLR_DEVICE float scale() const { return scale_of(pass_.exponents); }
  SIMCLR_DEVICE float shift() const { return 0.0f; }

  // Adds exponents; those of pairs that do not count are -infinity.
  SIMCLR_DEVICE void add_positives(const WidePairs& x, const WideBlock& block) const {
    if (pass_.pairing.label == nullptr) return;
    WidePairs terms;
    select_positives(terms, x, pass_.pairing.label, block);
    add_to_rows<WidePositiveSum>(terms, p_.pass.rows, pass_.problem, block);
  }
  // The same of those that are terms of the log-sum-exp.
  SIMCLR_DEVICE void add(const WidePairs& x, const WideBlock& block) const {
    if (!block.has_row(block.row(0))) return;
    const bool has_positives = pass_.pairing.label != nullptr || block.is_special(pass_.pairing);
    const float near_scale = kNearShift / scale();
    RowParts rows[kWarpRows];
    SIMCLR_UNROLL
    for (int r = 0; r < kWarpRows; ++r) {
      const int i = opaque(block.row(0)) + r;  // so that nothing of this is computed in advance
      static_assert(kLaneColumns == 4);
      const float largest = fmaxf(fmaxf(x[r][0], x[r][1]), fmaxf(x[r][2], x[r][3]));
      rows[r].rescale(fmaxf(largest, kLeastExponent));
      SIMCLR_UNROLL
      for (int e = 0; e < kLaneColumns; ++e) {
        const int j = block.column(e);
        rows[r].add_term(x[r][e]);
        // Outside of the matrix there is no label.
        const bool positive = has_positives && x[r][e] > -INFINITY && pass_.pairing.positive(i, j);
        rows[r].add_negative(positive ? -INFINITY : x[r][e], j, near_scale);
      }
    }
    const RowParts row = join_lanes(rows);
    const int64_t place = row_place(pass_.problem, block);
    if (place < 0) return;
    const auto& [sum, max, _] = p_.pass.rows;
    const StatsSums& sums = p_.sums;
    RowParts total = {owned(sum + place), max[place],          sums.weighted[place],
                      sums.near[place],   sums.hardest[place], sums.hardest_index[place]};
    total.join(row);
    total.store(sum, max, sums, place);
  }

 private:
  const WideStatsForwardParams& p_;
  const ForwardParams& pass_;
};

}  // namespace simclr::fused
