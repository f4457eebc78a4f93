// The parameters of the kernels for wide rows, whose products are in device memory.

#pragma once

#include "cuda/params.h"

namespace simclr::fused {

// The pairs of a tile that a block of threads takes.
constexpr int kWideThreads = 256;
constexpr int kWideRows = 64;
constexpr int kWideColumns = 128;

// Products of stored rows.
struct WideTile {
  Tile place;
  const float* s;  // [rows, columns]
  int64_t stride;  // of its rows, a multiple of 4 elements
};

// Sums so far. Blocks of a tile that share rows have a slot each, so that every number has one
// writer per tile.
struct WideForwardParams {
  ForwardParams pass;  // without strips and sums
  WideTile tile;
  SideSums rows;          // a slot for each block of the tile's columns
  SideSums columns = {};  // a slot for each block of its rows
};

struct WideStatsForwardParams {
  WideForwardParams pass;  // of the rows
  StatsSums sums;          // [slots, rows], like pass.rows.sum
};

struct WideSigmoidForwardParams {
  WideForwardParams pass;  // of the rows
  SigmoidScalars scalars;
  float* sigmoid_sum;  // [slots, rows], like pass.rows.sum
};

// Turns a tile into weights, in the type of the rows and with the strides of the tile.
struct WideWeightsParams {
  BackwardParams pass;
  WideTile tile;
  void* w;
};

struct WideSigmoidWeightsParams {
  WideWeightsParams pass;
  SigmoidScalars scalars;
};

// Computes the gradient of the wanted rows from the sum of the weighted columns.
struct WideGradientParams {
  BackwardParams pass;
  float* sum;  // [wanted, stride] sum_j W_ij row_j; overwritten
};

struct WideSigmoidGradientParams {
  WideGradientParams pass;
  SigmoidScalars scalars;
};

}  // namespace simclr::fused
