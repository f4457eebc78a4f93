// The three matrix products of a tile, with the fastest of what comes with torch.
//
// bfloat16 rows: as half_products.h says, where the processor multiplies them; elsewhere as floats.
//
// Floats: oneDNN's micro-kernel, if this processor and this build of torch have it. It
// multiplies on the calling thread and packs nothing, so small products are as fast as large ones;
// and it uses AVX-512 on every processor that has it, which MKL does not. It takes no transposed
// operands, so this keeps a transposed copy of Z, and transposes the product with W^T. Doubles,
// and floats otherwise: at::mm.

#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <utility>
#include <vector>

#include "common/schedule.h"
#include "cpu/half_products.h"
#include "cpu/matrix.h"
#include "cpu/rows.h"

namespace simclr {

template <typename T>
class Products {
 public:
  // `blocks` cover all rows; `gradients`: whether there will be other products than similarities.
  Products(const Rows& rows, const Schedule& schedule, int64_t workers, std::vector<Range> blocks,
           bool gradients);

  // To be called for every block, once the rows are normalized, before the products.
  void prepare(Range block);

  // tile [rows, columns] = Z_rows Z_columns^T
  void similarities(const Tile& place, Matrix<T> tile) const;
  // grad [rows of w, D] += w Z_columns
  void add_rows(Matrix<T> w, Range columns, Matrix<T> grad, int64_t worker);
  // grad [columns of w, D] += w^T Z_rows, for the rows of a block or of half a block.
  void add_columns(Matrix<T> w, Range rows, Matrix<T> grad, int64_t worker);

 private:
  // Columns of Z that are multiplied at a time: the operand that a product reads repeatedly, this
  // many rows of 512 floats or as many columns, stays in L2.
  static constexpr int64_t kPanel = 256;
  // Rows of Z that are multiplied at a time if they are wide: where they are a multiple of 4 KiB
  // apart, as many of these widths are, more of them displace each other from the caches.
  static constexpr int64_t kWide = 1024;
  static constexpr int64_t kWideRows = 128;
  // From this many rows on, a quarter of a diagonal tile is not multiplied but copied from the one
  // that it repeats: below, two products of half as many rows take as long as one.
  static constexpr int64_t kMinCut = 128;

  int64_t dim() const { return z_.size(1); }
  at::Tensor rows(Range range) const { return z_.narrow(0, range.begin, range.size()); }
  // The same memory, for BLAS.
  at::Tensor as_tensor(Matrix<T> matrix) const;
  // Calls visit(d) for every range of columns of Z that is multiplied at a time.
  template <typename Visit>
  void for_panels(const Visit& visit) const;
  // out = Z_rows Z_columns^T, by the micro-kernel; the columns are of one block.
  void multiply(Range rows, Range columns, Matrix<T> out) const;
  // Z_rows^T from column d of Z on, and its row stride in elements.
  std::pair<const T*, int64_t> transposed(Range rows, int64_t d) const;

  std::optional<HalfProducts> halves_;  // if set, the rest is unused
  Rows rows_;
  at::Tensor z_;  // [rows, D] of T; of bfloat16 rows, in memory of its own
  std::vector<Range> blocks_;
  bool micro_;             // whether the micro-kernel is used
  at::Tensor transposed_;  // Z_b^T [D, rows of b] of every block b, one after the other
  at::Tensor turned_;      // [workers, D of a panel, rows of a block]: a panel of (W^T Z)^T
};

extern template class Products<float>;
extern template class Products<double>;

}  // namespace simclr
