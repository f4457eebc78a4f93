// The vectorized inner loops of the CPU path, one table of functions per instruction set.
//
// Exponentials are 2^x with x = scale (s - shift) and scale = log2(e) / T. The shift is subtracted
// first: near it the difference is exact, with or without fused multiply-add.

#pragma once

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

namespace simclr::simd {

// Rows of a tile are padded to a multiple of this many elements, so that no kernel needs a tail
// loop over columns. A power of two, at least the number of lanes of any vector register.
constexpr int64_t kColumnPadding = 16;

// An integer as wide as T.
template <typename T>
using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;

// The similarities of a tile, row-major.
template <typename T>
struct TileData {
  T* s;
  int64_t rows;
  int64_t columns;  // multiple of kColumnPadding; the padding holds -inf
  int64_t stride;   // row stride in elements
};

template <typename T>
struct Kernels {
  // row_max[r] = max_c s[r, c]; col_max[c] = max_r s[r, c].
  void (*tile_max)(TileData<T> tile, T* row_max, T* col_max);

  // row_sum[r] = sum_c 2^(scale (s - row_shift[r]))
  // col_sum[c] = sum_r 2^(scale (s - col_shift[c]))
  // `shared`: all shifts are equal (not checked), so one exponential serves both sums.
  void (*exp_sums)(TileData<T> tile, T scale, const T* row_shift, const T* col_shift, T* row_sum,
                   T* col_sum, bool shared);

  // row_sum[r] = sum_c s 2^(scale (s - row_shift[r])), col_sum[c] likewise; 0 where s is -inf.
  void (*weighted_sums)(TileData<T> tile, T scale, const T* row_shift, const T* col_shift,
                        T* row_sum, T* col_sum);

  // row_max[r] = max_c s[r, c] and its smallest c, col_max[c] and its smallest r; -1 where all are
  // -inf or NaN.
  void (*tile_argmax)(TileData<T> tile, T* row_max, Index<T>* row_arg, T* col_max,
                      Index<T>* col_arg);

  // s[r, c] <- row_weight[r] 2^(scale (s - row_shift[r]))
  //          + col_weight[c] 2^(scale (s - col_shift[c]))
  void (*pair_weights)(TileData<T> tile, T scale, const T* row_shift, const T* col_shift,
                       const T* row_weight, const T* col_weight, bool shared);

  // For u = scale s[r, c] + bias: softplus_sum[r] = sum_c log(1 + e^u), and its derivative
  // sigmoid_sum[r] = sum_c 1 / (1 + e^-u).
  void (*softplus_sums)(TileData<T> tile, T scale, T bias, T* softplus_sum, T* sigmoid_sum);

  // s[r, c] <- row_weight[r] / (1 + e^-u)
  void (*sigmoid_weights)(TileData<T> tile, T scale, T bias, const T* row_weight);

  // to[c, r] = from[r, c] and to[c, r] += from[r, c], for `from` [rows, columns]; from_stride and
  // to_stride are row strides in elements.
  void (*transpose)(const T* from, int64_t rows, int64_t columns, int64_t from_stride, T* to,
                    int64_t to_stride);
  void (*add_transposed)(const T* from, int64_t rows, int64_t columns, int64_t from_stride, T* to,
                         int64_t to_stride);

  // z[r, :] *= inv_norm[r] = 1 / max(|z_r|, eps), rounded to T.
  void (*normalize_rows)(T* z, int64_t rows, int64_t dim, double eps, T* inv_norm);

  // Returns sum_r z_r . dz_r, and where `inv_norm` is given turns dz, the gradient with respect to
  // the unit rows z, into the gradient with respect to the raw rows. Where inv_norm is 1 / eps, the
  // row was divided by a constant.
  double (*normalize_rows_backward)(const T* z, T* dz, int64_t rows, int64_t dim, double eps,
                                    const T* inv_norm);
};

// bfloat16 is passed as its bits.
struct HalfKernels {
  // to[k] = factor from[k]
  void (*widen)(const uint16_t* from, int64_t count, float factor, float* to);
  // to[k] = from[k], rounded to the nearest.
  void (*narrow)(const float* from, int64_t count, uint16_t* to);

  // s[r, c] *= row_factor[r] column_factor[c]
  void (*scale)(float* s, int64_t rows, int64_t columns, int64_t stride, const float* row_factor,
                const float* column_factor);

  // Right operands of the micro-kernel, [K / 2, to_columns, 2]. K is dim, which is even:
  // to[d / 2, r, d % 2] = from[r, d], for `from` [rows, dim].
  void (*transpose_pairs)(const uint16_t* from, int64_t rows, int64_t dim, uint16_t* to,
                          int64_t to_columns);
  // K is rows: to[r / 2, c, r % 2] = from[r, c]; 0 for r = rows if their number is odd.
  void (*interleave_rows)(const uint16_t* from, int64_t rows, int64_t columns, int64_t from_stride,
                          uint16_t* to, int64_t to_columns);

  // to[r, c] = factor[c] from[r, c], rounded, 0 for columns <= c < to_stride.
  void (*round_rows)(const float* from, int64_t rows, int64_t columns, int64_t from_stride,
                     const float* factor, uint16_t* to, int64_t to_stride);
  // to[c, r] = factor[r] from[r, c], rounded, 0 for rows <= r < to_stride.
  void (*round_transposed)(const float* from, int64_t rows, int64_t columns, int64_t from_stride,
                           const float* factor, uint16_t* to, int64_t to_stride);
};

// The kernels for the best instruction set that this processor has, or for the one in the
// environment variable SIMCLR_EXT_ISA. Read once, at first use.
template <typename T>
const Kernels<T>& kernels();

const HalfKernels& half_kernels();

// The kernels for one of available_isas().
template <typename T>
Kernels<T> kernels_for(const std::string& isa);
HalfKernels half_kernels_for(const std::string& isa);

// The instruction set that `kernels` uses, and all that this build and processor can use, best
// last.
std::string active_isa();
std::vector<std::string> available_isas();

}  // namespace simclr::simd
