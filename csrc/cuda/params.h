// What the fused kernels are given: plain data, for host and device code.
//
// Rows are stored scaled by a power of two, which loses nothing: row_i = x_i 2^e_i, with the unit
// row z_i = factor_i row_i and 1 <= factor_i < 2. So half types are not rounded again, and no
// product under- or overflows, however long the rows are.
//
// i and j are rows of z, as in common/pairing.h. They are counted in 32 bits, which are many;
// offsets of elements take 64.

#pragma once

#include <cstdint>

#include "common/pairing.h"

namespace simclr::fused {

// What the tensor cores multiply. Sums are always of floats.
enum class Precision {
  kBf16,
  kFp16,
  kTf32,    // float rows, rounded to 10 bits after the point
  kTf32x3,  // float rows, each the sum of two such numbers, at a third of the speed: the factors
            // keep 22 bits of 24, and the tensor cores cut off sums; losses are off by 3e-6 to 6e-6
};

// The rows of both sides.
struct Rows {
  const void* z;        // [count, stride] rows, padded with zeros from D on
  const float* factor;  // [count]
  int dim;              // D
  int stride;           // elements from row to row, a multiple of 16 bytes
};

struct PrepareParams {
  const void* side[2];    // x [R, D], y [C, D]
  int64_t row_stride[2];  // in elements
  int64_t column_stride[2];
  int rows;   // of x
  int count;  // of x and y
  int dim;
  int stride;
  bool normalize;
  float eps;
  void* z;          // [count, stride]
  float* factor;    // [count]
  float* inv_norm;  // [count] 1 / max(|x_i|, eps), negative where eps was the larger
};

// Rows or columns in strips: the blocks of the forward pass visit the pairs of two.
struct Strips {
  int size;  // a multiple of the tile's rows and columns
  int count;
};

// Similarities are taken as exponents of two, x_ij = scale s_ij. Where all of them are at most
// `shift` and far from underflow (`shared_shift`), every pair is visited once: its 2^(x - shift)
// belongs to its row and to its column. Else, and where labels tell the positives, each row has its
// own shift, a running maximum, and columns get their sums as the rows of the transposed problem.
//
// Sums of a strip's rows over the columns of strip b are at [b, i], those of its columns over the
// rows of strip a at [a, j]; i and j count from the beginning of their side. Of a symmetric problem
// with a shared shift both are in one array, and the pairs inside of a strip have their second
// row's share at [strips, j].
struct ForwardParams {
  Rows rows;
  Problem problem;
  Pairing pairing;  // of a symmetric problem with a shared shift only k of the shifts k, -k
  float scale;      // log2(e) / temperature
  float shift;      // of x; 0 unless shared_shift
  bool shared_shift;
  Strips row_strips;
  Strips column_strips;
  float* row_sum;
  float* row_max;     // as row_sum; null with a shared shift
  float* column_sum;  // null without a shared shift
  // As row_sum, of x_ij over the positives that labels tell, zeros before. With labels no shift is
  // shared.
  float* row_positive;
  // x_ij - shift of the positive j = i + shift[k] at [k, i]; null with labels.
  float* positive;
};

// Makes losses of one side's sums: the rows of the problem, or its columns.
struct FinishParams {
  Problem problem;
  Pairing pairing;
  bool shared_shift;
  float shift;
  Range side;       // of z
  int64_t counted;  // the pairs of each of its rows
  int slots;        // of the sums, [slots, side]
  const float* sum;
  const float* max;           // null with a shared shift
  const float* positive_sum;  // [slots, side], or null
  const float* positive;      // [shifts, rows], or null
  const int32_t* positives;   // [count] how many each row has; null without labels
  float* loss;                // [count]
  double* lse;                // [count]
};

// Terms of the weights of pairs, of all rows of z. See pair_weights.cuh.
struct TermsParams {
  Problem problem;
  Pairing pairing;
  const float* grad_loss;  // [count], any stride
  int64_t grad_loss_stride;
  const float* loss;
  const double* lse;
  const float* inv_norm;  // [count], or null: the rows are not normalized
  int count;
  float shift;  // of x, where it is shared
  bool shared_shift;
  int32_t* positives;  // [count] how many each row has: known with labels, else written
  uint32_t* max_grad;  // bits of max |grad_loss|, zero before
  float* factor;       // [count]
  float* weight;       // [count] w_i, times the gain of `gain_exponent`
  float* row_shift;    // [count] of x
  float* single;       // [count]
  float* share;        // [count]
};

// What `make_terms` has written.
struct Terms {
  const uint32_t* max_grad;
  const float* weight;
  const float* row_shift;
  const float* single;
  const float* share;
  const int32_t* positives;
};

struct BackwardParams {
  Rows rows;
  Problem problem;  // its rows are those whose gradient is wanted
  Pairing pairing;
  Terms terms;
  const float* inv_norm;  // [count], or null: the rows are not normalized
  float scale;
  float shift;  // of x, where it is shared
  bool shared_shift;
  void* grad;     // [rows of the problem, D], of the type of x
  float* radial;  // [rows of the problem] z_i . dL/dz_i
};

}  // namespace simclr::fused
