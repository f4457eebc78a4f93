// Where a pass adds the gradients of rows.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "common/range.h"
#include "cpu/matrix.h"
#include "cpu/rows.h"

namespace simclr {

// dL/dz of the rows `wanted`, and at the end that of the raw rows.
template <typename T>
class RowGradients {
 public:
  RowGradients(const Rows& rows, Range wanted, double eps)
      : rows_(rows),
        wanted_(wanted),
        eps_(eps),
        grad_(at::empty({wanted.size(), rows.z.size(1)}, rows.inv_norm.options())),
        radial_(wanted.size(), 0.0) {}

  // Those of some rows that are wanted, or of none.
  Range wanted(Range rows) const { return intersect(rows, wanted_); }
  // The gradients of some rows that are wanted.
  Matrix<T> of(Range part) const {
    const int64_t dim = grad_.size(1);
    T* first = grad_.template mutable_data_ptr<T>() + (part.begin - wanted_.begin) * dim;
    return {first, part.size(), dim, dim};
  }

  // To be called for every block, before something is added to it and after all is.
  void clear(Range block) {
    const Range part = wanted(block);
    if (part.size() == 0) return;
    const Matrix<T> grad = of(part);
    std::fill(grad.data, grad.data + grad.rows * grad.columns, T(0));
  }
  void finish(Range block) {
    const Range part = wanted(block);
    if (part.size() == 0) return;
    radial_[part.begin - wanted_.begin] = undo_normalization<T>(rows_, part, eps_, of(part).data);
  }

  // [wanted, D] of the compute dtype
  const at::Tensor& tensor() const { return grad_; }
  // sum_i z_i . dL/dz_i over the rows of blocks that begin in `counted`.
  double radial(Range counted) const {
    const Range part = wanted(counted);
    if (part.size() == 0) return 0;
    const auto first = radial_.begin() + (part.begin - wanted_.begin);
    return std::accumulate(first, first + part.size(), 0.0);
  }

 private:
  Rows rows_;
  Range wanted_;
  double eps_;
  at::Tensor grad_;
  std::vector<double> radial_;  // of a block, in the place of its first wanted row
};

}  // namespace simclr
