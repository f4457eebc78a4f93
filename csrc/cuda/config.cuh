// The configurations of the fused kernels: one per precision and class of D.

#pragma once

#include <algorithm>
#include <type_traits>

#include "cuda/elements.cuh"

namespace simclr::fused {

// A block multiplies kRows rows with a sequence of tiles of kColumns rows: while one tile is
// multiplied, the next is copied. Each warp owns 16 kRowTiles of the rows, and all columns. The
// rows stay in shared memory or, in the forward pass, in registers: see ForwardConfig.
//
// Two accumulators of 16 rows share what is loaded of the columns. Otherwise shared memory would be
// busy as long as the tensor cores. The rows' gradient is in registers, kDim floats per row: so for
// kDim = 256 there is only one accumulator.
//
// Shared memory stays below 80 KiB, so that two blocks run on a multiprocessor of an A100 or H100,
// and one on any from sm_80 on: sm_86, sm_89 and sm_120 have 100 KiB.
template <typename Element_, int kDim_, int kWarps_, int kRowTiles_, int kColumns_,
          bool kKeepsRows_ = false>
struct Config {
  using Element = Element_;
  using Storage = typename Element::Storage;
  static constexpr int kDim = kDim_;  // D, padded
  static constexpr int kWarps = kWarps_;
  static constexpr int kThreads = 32 * kWarps;
  static constexpr int kRowTiles = kRowTiles_;  // of 16 rows, per warp
  static constexpr int kWarpRows = 16 * kRowTiles;
  static constexpr int kRows = kWarps * kWarpRows;
  static constexpr int kColumns = kColumns_;
  static constexpr int kColumnTiles = kColumns / 8;
  // Whether a warp keeps its rows in registers. Then tiles of columns take their place in shared
  // memory.
  static constexpr bool kKeepsRows = kKeepsRows_;

  static constexpr int kRowBytes = kDim * static_cast<int>(sizeof(Storage));
  static constexpr int kUnits = kRowBytes / kUnitBytes;
  static constexpr int kSteps = kUnits / kStepUnits;
  static constexpr int kUnitElements = kUnitBytes / static_cast<int>(sizeof(Storage));

  // Registers of a lane for the warp's rows and their similarities with a tile of columns.
  static constexpr int kKeptRegisters =
      kRowTiles * (kSteps * static_cast<int>(sizeof(typename Element::A)) / 4 + kColumnTiles * 4);

  // Numbers per column that are copied with a tile: factor, and in the backward pass weight and
  // shift.
  static constexpr int kMaxColumnTerms = 3;
  static constexpr int kTileBytes = kColumns * kRowBytes;
  static constexpr int kStageBytes = kTileBytes + kMaxColumnTerms * kColumns * 4;
  static constexpr int kRowsBytes = kRows * kRowBytes;
  static constexpr int kStagesOffset = kKeepsRows ? 0 : kRowsBytes;
  static constexpr int kSumsOffset = std::max(kRowsBytes, kStagesOffset + 2 * kStageBytes);
  static constexpr int kSharedBytes = kSumsOffset + 2 * kWarps * kColumns * 4;

  // A thread adds the sums of the same columns for all tiles of rows.
  static_assert(kRows % kColumns == 0);
  static_assert(kColumns % 16 == 0 && kColumns <= kThreads && kUnits % 4 == 0);
  static_assert(kSharedBytes <= 80 * 1024);
};

template <typename Element, int kDim>
struct ConfigFor;
template <int kDim>
struct ConfigFor<Bf16, kDim> {
  using Type = Config<Bf16, kDim, 4, kDim <= 128 ? 2 : 1, kDim <= 128 ? 64 : 32>;
};
template <int kDim>
struct ConfigFor<Fp16, kDim> {
  using Type = Config<Fp16, kDim, 4, kDim <= 128 ? 2 : 1, kDim <= 128 ? 64 : 32>;
};
template <typename Element, int kDim>
struct FloatConfig {
  using Type = Config<Element, kDim, kDim <= 128 ? 4 : 2, kDim <= 64 ? 2 : 1,
                      kDim <= 64 ? 64 : (kDim <= 128 ? 32 : 16)>;
};
template <int kDim>
struct ConfigFor<Tf32, kDim> : FloatConfig<Tf32, kDim> {};
template <int kDim>
struct ConfigFor<Tf32x3, kDim> : FloatConfig<Tf32x3, kDim> {};

// The same with rows in registers. Rows of half types with kDim = 256 have two accumulators then:
// they fill 64 KiB of shared memory only until they are in registers.
template <typename C>
using KeptRowsConfig = Config<typename C::Element, C::kDim, C::kWarps,
                              C::kDim == 256 && sizeof(typename C::Storage) == 2 ? 2 : C::kRowTiles,
                              C::kColumns, true>;

// For the forward pass, which has no gradient in registers. Where a row has 256 bytes or more,
// shared memory limits a tile more than exponentials do, and a third or half of what is loaded from
// it is rows; in 3xTF32 they are split again for each tile. More registers than 160 for rows and
// tile are not there.
template <typename C>
using ForwardConfig =
    std::conditional_t<C::kRowBytes >= 256 && KeptRowsConfig<C>::kKeptRegisters <= 160,
                       KeptRowsConfig<C>, C>;

// For the backward pass where each row has its own shift: half the columns, to have enough
// registers.
template <typename C>
using OwnShiftConfig = Config<typename C::Element, C::kDim, C::kWarps, C::kRowTiles,
                              C::kDim == 128 && C::kColumns == 64 ? 32 : C::kColumns>;

constexpr int kRowsOffset = 0;  // of the tile of rows in shared memory

// Calls visit(config) with the smallest configuration that holds D.
template <typename Element, typename Visit>
void dispatch_dim(int64_t dim, const Visit& visit) {
  if (dim <= 32) return visit(typename ConfigFor<Element, 32>::Type{});
  if (dim <= 64) return visit(typename ConfigFor<Element, 64>::Type{});
  if (dim <= 128) return visit(typename ConfigFor<Element, 128>::Type{});
  return visit(typename ConfigFor<Element, 256>::Type{});
}

}  // namespace simclr::fused
