// The matrix S = Z Z^T of a batch, which exists one tile per thread at a time.

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/tiling.h"
#include "cpu/simd/kernels.h"

namespace simclr {

template <typename T>
class Similarities {
 public:
  // Copies both views [N, D] into one [2N, D] buffer of T and normalises its rows.
  Similarities(const at::Tensor& z0, const at::Tensor& z1, double temperature, bool normalize,
               double eps);

  int64_t num_pairs() const { return num_pairs_; }     // N
  int64_t num_rows() const { return 2 * num_pairs_; }  // 2N
  int64_t dim() const { return z_.size(1); }           // D
  const Blocks& blocks() const { return blocks_; }

  // log2(e) / temperature: logits in powers of two.
  T scale() const { return scale_; }
  // Whether all |s| <= shared_shift() with a range over which 2^(scale (s - shift)) cannot
  // underflow. One shift then serves all rows, and one exponential both rows of a pair.
  bool has_shared_shift() const { return has_shared_shift_; }
  T shared_shift() const { return shared_shift_; }

  const T* row(int64_t i) const { return z_.template const_data_ptr<T>() + i * dim(); }
  const at::Tensor& block(int64_t b) const { return z_blocks_[b]; }  // [rows of b, D]
  // 1 / max(|row|, eps), signed as normalize_rows says; null where rows are not normalised.
  const T* inv_norm(int64_t i) const { return inv_norm_.empty() ? nullptr : &inv_norm_[i]; }

  // Computes a tile in the calling thread's scratch: its diagonal, which pairs rows with
  // themselves, and its padding are -inf. Valid until the thread's next call.
  simd::Tile<T> tile(BlockPair pair);
  // The same tile as a matrix without the padding, [rows of a, rows of b].
  at::Tensor matrix(BlockPair pair) const;

  // Rows i < N of the tile whose positive i + N lies in it.
  Range rows_with_positive(BlockPair pair) const;
  // The element of the tile that pairs row i with its positive; and, in a diagonal tile, the
  // element that pairs the positive with row i.
  T& positive(const simd::Tile<T>& tile, BlockPair pair, int64_t i) const;
  T& mirrored_positive(const simd::Tile<T>& tile, BlockPair pair, int64_t i) const;

 private:
  void normalize(double eps);

  int64_t num_pairs_;
  Blocks blocks_;
  at::Tensor z_;                      // [2N, D], rows of z0 first
  std::vector<at::Tensor> z_blocks_;  // views of z_
  std::vector<T> inv_norm_;           // [2N]
  T scale_;
  bool has_shared_shift_;
  T shared_shift_;
  at::Tensor scratch_;  // [threads, rows of a block, the same padded]
};

extern template class Similarities<float>;
extern template class Similarities<double>;

}  // namespace simclr
