// Wide rows: tiles of similarities in device memory, which cuBLAS multiplies and kernels turn into
// sums of rows and columns, or into weights that cuBLAS multiplies again:
//
//   forward    S = Z_a Z_b^T; the exponentials of S are added to the sums of rows a and columns b
//   backward   S again, and from it W; G_a += W Z_b, G_b += W^T Z_a; from G the gradient
//
// Where rows are columns, only tiles a <= b are visited; in a diagonal tile, only pairs i < j.

#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <c10/util/FunctionRef.h>

#include <vector>

#include "common/schedule.h"
#include "cuda/losses.h"
#include "cuda/products.h"

namespace simclr::fused {

// The tiles of a problem, at most kWideSide x kWideSide. Sums of rows and columns over a triangle
// take an even number of blocks: so none is in both views, and a view's gradient is of whole tiles.
inline std::vector<Tile> wide_places(const Problem& problem, bool triangle) {
  std::vector<Tile> places;
  if (!triangle) {
    const Blocks rows(problem.rows, divide_up(problem.rows.size(), kWideSide));
    const Blocks columns(problem.columns, divide_up(problem.columns.size(), kWideSide));
    for (int64_t a = 0; a < rows.count(); ++a) {
      for (int64_t b = 0; b < columns.count(); ++b) places.push_back({rows[a], columns[b], false});
    }
    return places;
  }
  const int64_t size = problem.rows.size();
  const bool single = size <= kWideSide / 2;
  const Blocks blocks(problem.rows, single ? 1 : 2 * divide_up(size, 2 * kWideSide));
  for (int64_t a = 0; a < blocks.count(); ++a) {
    // Half of a diagonal tile repeats the other half.
    const auto [upper, lower] = Schedule::halves(blocks[a], kWideSide / 2);
    places.push_back({upper, upper, true});
    if (lower.size() > 0) {
      places.push_back({upper, lower, false});
      places.push_back({lower, lower, true});
    }
    for (int64_t b = a + 1; b < blocks.count(); ++b) {
      places.push_back({blocks[a], blocks[b], false});
    }
  }
  return places;
}

// The tiles of S of stored rows, one at a time.
class WideTiles {
 public:
  // z: [count, stride]
  WideTiles(const at::Tensor& z, const Problem& problem, bool triangle)
      : z_(z), places_(wide_places(problem, triangle)), s_(empty(at::kFloat)) {}

  const std::vector<Tile>& places() const { return places_; }
  // The most rows and columns of a tile.
  int64_t max_rows() const {
    return largest([](const Tile& place) { return place.rows.size(); });
  }
  int64_t max_columns() const {
    return largest([](const Tile& place) { return place.columns.size(); });
  }

  at::Tensor rows(Range part) const { return z_.narrow(0, part.begin, part.size()); }
  // Multiplies a tile; good until the next call.
  WideTile multiply(const Tile& place) const {
    fused::multiply(matrix(s_, place), rows(place.rows), rows(place.columns));
    return {place, s_.mutable_data_ptr<float>(), stride(place)};
  }
  // Memory for the weights of any tile, in the type of the rows: that of S itself for floats.
  at::Tensor weights() const {
    return z_.scalar_type() == at::kFloat ? s_ : empty(z_.scalar_type());
  }
  // A tile in such memory.
  static at::Tensor matrix(const at::Tensor& memory, const Tile& place) {
    return memory.as_strided({place.rows.size(), place.columns.size()}, {stride(place), 1});
  }

 private:
  // Rows begin at multiples of 16 bytes, of half types too.
  static int64_t stride(const Tile& place) { return divide_up(place.columns.size(), 8) * 8; }

  template <typename Size>
  int64_t largest(const Size& size) const {
    int64_t most = 0;
    for (const Tile& place : places_) most = std::max(most, size(place));
    return most;
  }
  at::Tensor empty(at::ScalarType dtype) const {
    const auto size = [](const Tile& place) { return place.rows.size() * stride(place); };
    return at::empty({largest(size)}, z_.options().dtype(dtype));
  }

  at::Tensor z_;
  std::vector<Tile> places_;
  at::Tensor s_;
};

// Runs the forward pass over a problem, and writes the losses of its rows and, if they have any, of
// its columns. stats: by-products, too, or null.
void run_wide_pass(const at::Tensor& z, const Rows& rows, const Problem& problem,
                   const Pairing& pairing, const Exponents& exponents, const Losses& losses,
                   const Stats* stats, Stream stream);

// Runs the forward pass of the sigmoid loss, all but its strips and sums being given. Returns the
// partial sums of the losses and of the sigmoids of all pairs that are not positive, [2, slots, R].
at::Tensor sum_wide_pairs(const at::Tensor& z, const SigmoidForwardParams& pass, Stream stream);

// Returns G of the rows `wanted` of z, [wanted, stride] float. weigh(tile, w) turns a tile of S
// into weights.
at::Tensor add_weighted_rows(const at::Tensor& z, const Problem& problem, Range wanted,
                             c10::function_ref<void(const WideTile& tile, void* w)> weigh);

}  // namespace simclr::fused
