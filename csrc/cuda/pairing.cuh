// Which pairs of a block's tile are special: see common/pairing.h. Row numbers are 32-bit here.

#pragma once

#include "cuda/device.cuh"
#include "cuda/params.h"

namespace simclr::fused {

SIMCLR_DEVICE int to_int(int64_t row) { return static_cast<int>(row); }

// Whether the results of a row of z are those of the problem's columns, as the rows of the
// transposed problem.
SIMCLR_DEVICE bool is_transposed(const Problem& problem, int row) {
  return row < to_int(problem.rows.begin) || row >= to_int(problem.rows.end);
}
// The problem and the pairing of such rows, or of others.
SIMCLR_DEVICE Problem problem_of_side(const Problem& problem, bool transposed) {
  return transposed ? problem.transposed() : problem;
}
SIMCLR_DEVICE Pairing pairing_of_side(const Pairing& pairing, bool transposed) {
  return transposed ? pairing.transposed() : pairing;
}

// Whether the tile of kRows x kColumns pairs from (row, column) on has one with j = i + distance.
template <typename C>
SIMCLR_DEVICE bool meets(int row, int column, int distance) {
  return column < row + distance + C::kRows && row + distance < column + C::kColumns;
}

// Whether the tile has a pair (i, i) or a positive by a shift. It looks for the shifts of both
// sides, since the loops have no registers to choose; rows and columns of a side have no pair of
// the other one's.
template <typename C>
SIMCLR_DEVICE bool meets_special(const Pairing& pairing, int row, int column) {
  bool special = pairing.skip_self && meets<C>(row, column, 0);
  SIMCLR_UNROLL
  for (int k = 0; k < Pairing::kMaxShifts; ++k) {
    const int shift = to_int(pairing.shift[k]);
    special |=
        k < pairing.shifts && (meets<C>(row, column, shift) || meets<C>(row, column, -shift));
  }
  return special;
}

// How many positives row i of z has by shifts; for a column, of how many rows it is a positive.
SIMCLR_DEVICE int count_positives(const Problem& problem, const Pairing& pairing, int i) {
  int count = 0;
  SIMCLR_UNROLL
  for (int k = 0; k < Pairing::kMaxShifts; ++k) {
    if (k >= pairing.shifts) continue;
    count += problem.rows.contains(i) ? problem.columns.contains(i + pairing.shift[k])
                                      : problem.rows.contains(i - pairing.shift[k]);
  }
  return count;
}

}  // namespace simclr::fused
