// A matrix in memory. A tile has a few of them, and torch's tensors take a microsecond each.

#pragma once

#include <cstdint>

namespace simclr {

template <typename T>
struct Matrix {
  T* data;
  int64_t rows;
  int64_t columns;
  int64_t stride;  // from row to row, in elements; those of a row are contiguous

  Matrix narrow_rows(int64_t begin, int64_t count) const {
    return {data + begin * stride, count, columns, stride};
  }
  Matrix narrow_columns(int64_t begin, int64_t count) const {
    return {data + begin, rows, count, stride};
  }
};

}  // namespace simclr
