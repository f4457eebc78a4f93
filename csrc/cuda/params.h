// The parameters of the fused kernels: plain data, for host and device code.
//
// Rows are stored scaled by a power of two, which is exact: row_i = x_i 2^e_i, with the unit
// row z_i = factor_i row_i and 1 <= factor_i < 2. So half types are not rounded again, and no
// product underflows or overflows, whatever the norms of the rows.
//
// i and j are rows of z, as in common/pairing.h. Row numbers are 32-bit; offsets of elements are
// 64-bit.

#pragma once

#include <cstdint>

#include "common/limits.h"
#include "common/pairing.h"

namespace simclr::fused {

// A number in host memory (`address` is null), or in device memory, where the host need not wait
// for it.
struct Scalar {
  const double* address;
  double value;
};

// Similarities become base-2 logits, x_ij = scale s_ij with scale = log2(e) / T. Where a
// temperature is in device memory, the first kernel of a pass stores its scale for the others; one
// that is out of range makes all results NaN.
//
// If no x_ij is far from 0, 2^x needs no shift, which all rows then share (`shared_shift`); else
// each row has its own. The host cannot tell for a temperature that it does not know: it launches
// the kernels of both (`undecided`), and one of them returns at once.
struct Exponents {
  Scalar temperature = {nullptr, 1};
  float* stored_scale = nullptr;  // null: the host knows the scale
  float known_scale = 0;
  bool shared_shift = false;
  bool undecided = false;
};
// So that sums of kMaxRows powers are finite, up to 2^(96 + 30), and the weights that they become
// are normal numbers: for 4,096 pairs, those of rows whose gradient is 2^-24 of the largest or
// more.
constexpr float kLargestSharedScale = 96;

// The rows of both sides.
struct Rows {
  const void* z;        // [count, stride] rows, padded with zeros from D on
  const float* factor;  // [count]
  int dim;              // D
  int stride;           // row stride in elements, a multiple of 16 bytes
};

struct PrepareParams {
  const void* side[2];    // x [R, D], y [C, D]
  int64_t row_stride[2];  // in elements
  int64_t column_stride[2];
  int rows;   // R
  int count;  // R + C
  int dim;
  int stride;
  bool normalize;
  float inv_eps;  // the largest inv_norm
  Exponents exponents;
  void* z;          // [count, stride]
  float* factor;    // [count]
  float* inv_norm;  // [count] 1 / max(|x_i|, eps)
};

// Finite, and below every exponent: the difference of two infinities would be NaN.
constexpr float kLeastExponent = -1e30f;

// Rows or columns in strips: a block of the forward pass visits the pairs of two strips.
struct Strips {
  int size;  // a multiple of the tile's columns, and of its rows unless it is shorter than they
  int count;
};

// Sums of a side, its rows or its columns.
struct SideSums {
  float* sum = nullptr;       // [slots, side]; null: the side has no sums in this pass
  float* max = nullptr;       // likewise; null with a shared shift
  float* positive = nullptr;  // the sums of x_ij over the positives by labels; null without
};

// With a shared shift every pair is visited once: its 2^x is added to its row and to its column.
// Otherwise, and with labels, each row has its own shift, a running maximum, and columns get their
// sums as the rows of the transposed problem, in blocks of the same launch.
//
// Sums of a strip's rows over the columns of strip b are at [b, i], those of its columns over the
// rows of strip a at [a, j]; i and j count from the beginning of their side. For a symmetric
// problem with a shared shift both are in one array, and pairs within a strip add to their second
// row at [strips, j].
struct ForwardParams {
  Rows rows;
  Problem problem;
  Pairing pairing;
  Exponents exponents = {};
  Strips row_strips = {};
  Strips column_strips = {};
  SideSums row_sums = {};
  SideSums column_sums = {};  // where they are not those of rows
  // x_ij of row i's positive of shift k at [k, i], for the rows i of z whose sums have the pair; if
  // a pair is visited once, for the problem's row, and in a triangle for the smaller one.
  float* positive;

  // Of the rows, or of the columns as those of the transposed problem.
  constexpr const Strips& strips_of(bool columns) const {
    return columns ? column_strips : row_strips;
  }
  constexpr const SideSums& sums_of(bool columns) const { return columns ? column_sums : row_sums; }
};

// Of the sigmoid loss, u_ij = scale s_ij + bias. A scale in device memory that is not positive and
// finite makes all results NaN.
struct SigmoidScalars {
  Scalar scale;
  Scalar bias;
};

// The sigmoid loss sums for rows only, as without a shared shift.
struct SigmoidForwardParams {
  ForwardParams pass;  // row_sums: of log2(1 + e^u) over the pairs that are not positive
  SigmoidScalars scalars;
  float* sigmoid_sum = nullptr;  // like the rows' sums, of the sigmoids
};

// Computes losses and their derivatives by the bias from the sums.
struct SigmoidFinishParams {
  Problem problem;
  Pairing pairing;
  int slots;                 // partial sums per row: sums are [slots, rows]
  const float* sum;          // of log2(1 + e^u)
  const float* sigmoid_sum;  // of the sigmoids
  const float* positive;     // [shifts, count] u of the positives in base 2
  float* loss;               // [rows]
  double* bias_grad;         // [rows]
};

// Partial sums of a side's by-products, like its sums: see row_stats.cuh.
struct StatsSums {
  float* weighted = nullptr;
  float* near = nullptr;
  float* hardest = nullptr;
  int32_t* hardest_index = nullptr;
};

struct StatsOfSides {
  StatsSums rows = {};
  StatsSums columns = {};  // empty where they have no by-products, or are the rows
  constexpr const StatsSums& of(bool of_columns) const { return of_columns ? columns : rows; }
};

// The forward pass with by-products, without a shared shift.
struct StatsForwardParams {
  ForwardParams pass;
  StatsOfSides sums;
};

// A side whose losses are computed from its partial sums, [slots, side].
struct FinishSide {
  Range range = {0, 0};  // of z
  int64_t counted = 0;   // the number of pairs of each of its rows
  int slots = 0;
  int shared_slots = 0;  // with a shared shift
  SideSums sums = {};
};

// Computes losses from the sums of both sides.
struct FinishParams {
  Problem problem;
  Pairing pairing;
  Exponents exponents;
  bool visited_once;  // whether each pair is, whatever its shift
  FinishSide rows;
  FinishSide columns;        // empty where they have no losses, or are the rows
  const float* positive;     // [shifts, count], as in ForwardParams
  const int32_t* positives;  // [count] the number of positives by labels; null without labels
  float* loss;               // [count]
  double* lse;               // [count]
};

// Terms of the weights of pairs, of all rows of z. See pair_weights.cuh.
struct TermsParams {
  Problem problem;
  Pairing pairing;
  const float* grad_loss;  // [count], any stride
  int64_t grad_loss_stride;
  const double* grad_lse;  // [count], or null: zeros
  const float* loss;
  const double* lse;
  const float* inv_norm;  // [count], or null: the rows are not normalized
  int count;
  Exponents exponents;
  int32_t* positives;  // [count] the number of positives: input with labels, else output
  int* blocks_done;    // set to 0, for RadialSum
  float* max_grad;     // the largest |gradient| of a row
  float* factor;       // [count]
  float* weight;       // [count] w_i, times the gain of `gain_exponent`
  float* row_shift;    // [count] of x
  float* single;       // [count]
  float* share;        // [count]
};

// The results of `make_terms`.
struct Terms {
  const float* max_grad;
  const float* weight;
  const float* row_shift = nullptr;
  const float* single = nullptr;
  const float* share;
  const int32_t* positives = nullptr;
};

// Computes by-products, too.
struct StatsFinishParams {
  FinishParams pass;
  StatsOfSides sums;
  float* positive;         // [count] the mean similarity of the positives
  float* hardest;          // [count] the largest similarity of a negative
  int64_t* hardest_index;  // [count] its row of z
  double* mean;            // [count] the mean similarity of the terms, weighted by their softmax
  double* near;            // [count] the sum of exp(4 (s - 1)) over the negatives
};

// Computes the terms of the sigmoid loss's weights: those of columns, which have no loss, are 0.
struct SigmoidTermsParams {
  const float* grad_loss;  // [rows], any stride
  int64_t grad_loss_stride;
  int rows;
  int count;
  const float* inv_norm;  // [count], or null: the rows are not normalized
  int* blocks_done;       // set to 0, for RadialSum
  float* max_grad;        // the largest |gradient| of a row
  float* factor;          // [count]
  float* weight;          // [count] the gradient of a row's loss, times the gain of `gain_exponent`
  float* share;           // [count] the same without gain
};

// The partial gradients of a side's rows, one for each strip of the columns that they meet. Wide
// rows have none.
struct PartialGradients {
  Range rows = {};  // those of the side that are wanted
  Strips strips = {};
  float* partial = nullptr;  // [strips, rows, stride of the rows] times the gain
};

// The sum of the radial parts of some rows: the gradient of the temperature, or of the scale.
struct RadialSum {
  const float* radial;  // [count]
  int count;
  Scalar divisor;
  double factor;
  double* result = nullptr;  // the sum, times the factor, over the divisor; null: not needed
  int* blocks_done;          // how many blocks have stored their radial parts; the last one adds
};

// Partial gradients of the rows, and those of the raw rows, which they become. The columns, if they
// are others, have theirs as the rows of the transposed problem, in blocks of the same launches.
struct BackwardParams {
  Rows rows;
  Problem problem;
  Pairing pairing;
  Range wanted;  // the rows of z whose gradient is computed
  Terms terms;
  PartialGradients of_rows = {};
  PartialGradients of_columns = {};
  const float* inv_norm;  // [count], or null: the rows are not normalized
  float inv_eps;          // the inv_norm of rows that were divided by eps
  Exponents exponents = {};
  void* grad = nullptr;     // [wanted, D], of the type of x
  float* radial = nullptr;  // [wanted] z_i . dL/dz_i
  RadialSum sum = {};

  constexpr const PartialGradients& gradients_of(bool transposed) const {
    return transposed ? of_columns : of_rows;
  }
};

struct SigmoidBackwardParams {
  BackwardParams pass;  // without exponents; of the terms weight, share and max_grad
  SigmoidScalars scalars;
};

}  // namespace simclr::fused
