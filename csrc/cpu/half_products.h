// The matrix products of a tile of bfloat16 rows, with float results: oneDNN's micro-kernel, on
// processors that multiply bfloat16 (AVX512-BF16, AMX-BF16).
//
// Rows are stored scaled by a power of two, which is exact; the remaining factor of their
// normalization multiplies the similarities. So the similarities are as exact as those of floats.
// The weights of the gradient are rounded to bfloat16.

#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "common/schedule.h"
#include "cpu/matrix.h"

namespace simclr {

class HalfProducts {
 public:
  // Whether this processor and this build of torch multiply rows of that many elements.
  static bool available(int64_t dim);

  // z: [rows, D] bfloat16, contiguous; factor: [rows] float; `blocks` cover all rows.
  // `gradients`: whether there will be other products than similarities.
  HalfProducts(at::Tensor z, at::Tensor factor, const Schedule& schedule, int64_t workers,
               const std::vector<Range>& blocks, bool gradients);

  // The same as in Products.
  void prepare(Range block);
  void similarities(const Tile& place, Matrix<float> tile) const;
  void add_rows(Matrix<float> w, Range columns, Matrix<float> grad, int64_t worker);
  void add_columns(Matrix<float> w, Range rows, Matrix<float> grad, int64_t worker);

 private:
  // Rows that are packed together: a block, or half of a block whose diagonal is cut.
  struct Part {
    Range rows;
    int64_t as_columns;  // where its panels begin, in elements
    int64_t as_rows;
  };

  int64_t dim() const { return z_.size(1); }
  const float* factor(int64_t row) const { return factor_.const_data_ptr<float>() + row; }
  void pack(const Part& part);
  // The parts of a block or of half a block.
  std::vector<Part> parts(Range range) const;
  // grad += weights Z_part; weights: [rows of grad, weight_stride], zero beyond the part's rows.
  void add_weighted(const at::BFloat16* weights, int64_t weight_stride, const Part& part,
                    Matrix<float> grad) const;

  at::Tensor z_;
  at::Tensor factor_;
  std::vector<Part> parts_;
  at::Tensor as_columns_;  // Z_part^T of every part, in panels
  at::Tensor as_rows_;     // Z_part of every part, in panels
  at::Tensor weights_;     // [workers, weights of a part]
};

}  // namespace simclr
