// Where a pass adds the gradients of rows.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/zeros.h>

#include "common/range.h"
#include "cpu/matrix.h"

namespace simclr {

// dL/dZ of the rows `wanted`, [wanted, D].
template <typename T>
struct RowGradients {
  RowGradients(Range rows, int64_t dim, const at::TensorOptions& options)
      : wanted(rows), grad_z(at::zeros({rows.size(), dim}, options)) {}

  Matrix<T> of(Range part) const {
    const int64_t dim = grad_z.size(1);
    T* first = grad_z.template mutable_data_ptr<T>() + (part.begin - wanted.begin) * dim;
    return {first, part.size(), dim, dim};
  }

  Range wanted;
  at::Tensor grad_z;
};

}  // namespace simclr
