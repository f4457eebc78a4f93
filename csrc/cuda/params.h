// What the fused kernels are given: plain data, for host and device code.
//
// Rows are stored scaled by a power of two, which loses nothing: row_i = x_i 2^e_i, with the unit
// row z_i = factor_i row_i and 1 <= factor_i < 2. So half types are not rounded again, and no
// product under- or overflows, however long the rows are.
//
// Rows are counted in 32 bits, which are many; offsets of elements take 64.

#pragma once

#include <cstdint>

namespace simclr::fused {

// What the tensor cores multiply. Sums are always of floats.
enum class Precision {
  kBf16,
  kFp16,
  kTf32,    // float rows, rounded to 10 bits after the point
  kTf32x3,  // float rows, each the sum of two such numbers, at a third of the speed: the factors
            // keep 22 bits of 24, and the tensor cores cut off sums; losses are off by 3e-6 to 6e-6
};

// Both views of a batch and their rows.
struct Rows {
  const void* z;        // [M, stride] rows, M = 2N; padded with zeros from D on
  const float* factor;  // [M]
  int count;            // M
  int pairs;            // N
  int dim;              // D
  int stride;           // elements from row to row, a multiple of 16 bytes
};

struct PrepareParams {
  const void* view[2];    // z0, z1: [N, D]
  int64_t row_stride[2];  // in elements
  int64_t column_stride[2];
  int pairs;
  int dim;
  int stride;
  bool normalize;
  float eps;
  void* z;          // [M, stride]
  float* factor;    // [M]
  float* inv_norm;  // [M] 1 / max(|x_i|, eps), negative where eps was the larger
};

// Similarities are taken as exponents of two, x_ij = scale s_ij. Where all of them are at most
// `shift` and far from underflow (`shared_shift`), every pair is visited once: its 2^(x - shift)
// belongs to both of its rows. Else each row has its own shift, a running maximum.
struct ForwardParams {
  Rows rows;
  float scale;  // log2(e) / temperature
  float shift;  // of x; 0 unless shared_shift
  bool shared_shift;
  int strip_rows;  // rows of a strip, a multiple of the tile's rows and columns
  int strips;
  // Sums of row i over the columns of strip b at [b, i]. With a shared shift, the pairs inside of a
  // strip have their second row's share at [strips, j].
  float* partial_sum;  // [strips + 1, M]
  float* partial_max;  // [strips, M]; null with a shared shift
  // x_ip - shift. Without a shared shift both orders of a pair are computed, and may be rounded
  // differently: then each row has its own.
  float* positive;  // [N], or [M]
};

struct FinishParams {
  const float* partial_sum;
  const float* partial_max;  // null with a shared shift
  const float* positive;
  int count;
  int pairs;
  int strips;
  float shift;
  float* loss;  // [M]
  double* lse;  // [M]
};

// Terms of the weights of pairs, T W_ij = w_i 2^(x_ij - shift_i) + w_j 2^(x_ij - shift_j).
struct TermsParams {
  const float* grad_loss;  // [M], any stride
  int64_t grad_loss_stride;
  const float* loss;
  const double* lse;
  const float* inv_norm;  // [M], or null: the rows are not normalised
  int count;
  int pairs;
  float shift;  // of x, where it is shared
  bool shared_shift;
  uint32_t* max_grad;      // bits of max |grad_loss|, zero before
  float* factor;           // [M]
  float* weight;           // [M] w_i, times the gain of `gain_exponent`
  float* row_shift;        // [M] of x
  float* positive_weight;  // [N] T W_ip, without gain
};

struct BackwardParams {
  Rows rows;
  const float* inv_norm;  // [M], or null: the rows are not normalised
  float scale;
  float shift;  // of x, where it is shared
  bool shared_shift;
  const uint32_t* max_grad;
  const float* weight;
  const float* row_shift;
  const float* positive_weight;
  int first_row;  // the rows whose gradient is wanted
  int end_row;
  void* grad;     // [end_row - first_row, D], of the type of the views
  float* radial;  // [end_row - first_row] z_i . dL/dz_i
};

}  // namespace simclr::fused
