// Sets of a lane's elements of a tile, one bit each. Which pairs are special is found here from few
// rows and columns, and then known for all elements: decided for one element after the other, it
// would be nine tenths of a kernel's code.

#pragma once

#include "cuda/mainloop_mma.cuh"
#include "cuda/pairing.cuh"

namespace simclr::fused {

// A tile's place in S. Rows and columns from the ends on do not count here.
struct TilePlace {
  int first_row;
  int end_row;
  int first_column;
  int end_column;
};

// The bit of the element in this lane's row of `half`, and in a column of the tile; 0 if the lane
// does not have it. Any column may be asked for.
template <typename C>
SIMCLR_DEVICE uint32_t element_bit(int half, int column) {
  const auto c = static_cast<unsigned>(column);
  const bool own = c < C::kColumns && c / 2 % 4 == static_cast<unsigned>(lane_id()) % 4;
  return own ? 1u << (c / 8 * 4 + 2 * half + c % 2) : 0u;
}

// The element with this bit, of the row of `half`.
template <typename C>
SIMCLR_DEVICE float element(const float (&x)[C::kColumnTiles][4], int half, uint32_t bit) {
  float value = 0.0f;
  SIMCLR_UNROLL
  for (int n = 0; n < C::kColumnTiles; ++n) {
    SIMCLR_UNROLL
    for (int e = 2 * half; e < 2 * half + 2; ++e) {
      value = bit == 1u << (4 * n + e) ? x[n][e] : value;
    }
  }
  return value;
}

template <typename C>
struct TileBits {
  static_assert(4 * C::kColumnTiles <= 32);
  uint32_t bits[C::kRowTiles] = {};  // element e of accumulator (m, n) is bit 4 n + e of bits[m]

  SIMCLR_DEVICE bool has(int m, int n, int e) const { return bits[m] >> (4 * n + e) & 1u; }

  // Adds the pairs (i, i + distance), those past the ends too.
  SIMCLR_DEVICE void add_shift(const TilePlace& tile, int distance) {
    const int shift = tile.first_row + distance - tile.first_column;
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        bits[m] |= element_bit<C>(half, row_of<C>(m, 2 * half) + shift);
      }
    }
  }

  // Adds the pairs before the ends whose rows of z have equal numbers.
  SIMCLR_DEVICE void add_equal(const TilePlace& tile, const int32_t* number) {
    int32_t own[C::kRowTiles][2];
    uint32_t inside[C::kRowTiles][2];
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int half = 0; half < 2; ++half) {
        const int i = tile.first_row + row_of<C>(m, 2 * half);
        inside[m][half] = i < tile.end_row ? 1u << 2 * half : 0u;
        own[m][half] = i < tile.end_row ? number[i] : 0;
      }
    }
    SIMCLR_UNROLL_8  // loads that do not wait for each other
        for (int k = 0; k < 2 * C::kColumnTiles; ++k) {
      const int j = tile.first_column + column_of(k / 2, k % 2);
      const bool column_inside = j < tile.end_column;
      const int32_t other = column_inside ? number[j] : 0;
      SIMCLR_UNROLL
      for (int m = 0; m < C::kRowTiles; ++m) {
        SIMCLR_UNROLL
        for (int half = 0; half < 2; ++half) {
          const uint32_t bit = inside[m][half] << (k / 2 * 4 + k % 2);
          bits[m] |= column_inside && own[m][half] == other ? bit : 0u;
        }
      }
    }
  }

  // Sets these elements of a tile to a value.
  SIMCLR_DEVICE void fill(float (&tile)[C::kRowTiles][C::kColumnTiles][4], float value) const {
    SIMCLR_UNROLL
    for (int m = 0; m < C::kRowTiles; ++m) {
      SIMCLR_UNROLL
      for (int n = 0; n < C::kColumnTiles; ++n) {
        SIMCLR_UNROLL
        for (int e = 0; e < 4; ++e) tile[m][n][e] = has(m, n, e) ? value : tile[m][n][e];
      }
    }
  }
};

// The positives of the pairing; with equal labels the pairs (i, i), too.
template <typename C, bool kLabels>
SIMCLR_DEVICE TileBits<C> positives(const Pairing& pairing, const TilePlace& tile) {
  TileBits<C> positive;
  if constexpr (kLabels) {
    if (pairing.label != nullptr) {
      positive.add_equal(tile, pairing.label);
      return positive;
    }
  }
  SIMCLR_UNROLL
  for (int k = 0; k < Pairing::kMaxShifts; ++k) {
    if (k < pairing.shifts) positive.add_shift(tile, to_int(pairing.shift[k]));
  }
  return positive;
}

// The pairs that count and are not terms of the log-sum-exp. What does not count may be among them.
template <typename C, bool kLabels>
SIMCLR_DEVICE TileBits<C> left_out(const Pairing& pairing, const TilePlace& tile) {
  const bool no_negatives = pairing.denominator == Denominator::kPositives;
  TileBits<C> equal;
  if (pairing.ignored != nullptr && !no_negatives) equal.add_equal(tile, pairing.ignored);
  TileBits<C> out = positives<C, kLabels>(pairing, tile);
  SIMCLR_UNROLL
  for (int m = 0; m < C::kRowTiles; ++m) {
    const uint32_t negatives = ~out.bits[m] & (no_negatives ? ~0u : equal.bits[m]);
    out.bits[m] = negatives | (pairing.sums_positives() ? 0u : out.bits[m]);
  }
  return out;
}

}  // namespace simclr::fused
