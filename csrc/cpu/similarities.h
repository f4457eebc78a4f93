// The matrix S = Z Z^T of a batch, which exists one tile per thread at a time.

#pragma once

#include <ATen/core/Tensor.h>

#include "common/tiling.h"
#include "cpu/products.h"
#include "cpu/simd/kernels.h"

namespace simclr {

template <typename T>
class Similarities {
 public:
  // z: [2N, D] rows, those of the first view first; of length 1 at most if `normalized`.
  Similarities(at::Tensor z, double temperature, bool normalized);

  int64_t num_pairs() const { return z_.size(0) / 2; }  // N
  int64_t num_rows() const { return z_.size(0); }       // 2N
  int64_t dim() const { return z_.size(1); }            // D
  const Blocks& blocks() const { return blocks_; }

  // log2(e) / temperature: logits in powers of two.
  T scale() const { return scale_; }
  // Whether all |s| <= shared_shift() with a range over which 2^(scale (s - shift)) cannot
  // underflow. One shift then serves all rows, and one exponential both rows of a pair.
  bool has_shared_shift() const { return has_shared_shift_; }
  T shared_shift() const { return shared_shift_; }

  const T* row(int64_t i) const { return z_.template const_data_ptr<T>() + i * dim(); }
  Products<T>& products() { return products_; }

  // Computes a tile in the calling thread's scratch: its diagonal, where rows meet themselves, and
  // its padding are -inf. Valid until the thread's next call.
  simd::TileData<T> compute(const Tile& tile);
  // The same tile as a matrix without the padding, [rows, columns].
  at::Tensor matrix(const Tile& tile) const;

  // Rows i < N of the tile whose positive i + N is one of its columns.
  Range rows_with_positive(const Tile& tile) const;
  // The element that pairs row i with its positive; and, in a diagonal tile, its mirror image.
  T& positive(const simd::TileData<T>& data, const Tile& tile, int64_t i) const;
  T& mirrored_positive(const simd::TileData<T>& data, const Tile& tile, int64_t i) const;

 private:
  at::Tensor z_;
  Blocks blocks_;
  Products<T> products_;
  T scale_;
  bool has_shared_shift_;
  T shared_shift_;
  at::Tensor scratch_;  // [workers, rows of a block, the same padded]
};

extern template class Similarities<float>;
extern template class Similarities<double>;

}  // namespace simclr
