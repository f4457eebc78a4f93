// Half-open ranges of rows.

#pragma once

#include <algorithm>
#include <cstdint>

namespace simclr {

struct Range {
  int64_t begin;
  int64_t end;
  constexpr int64_t size() const { return end > begin ? end - begin : 0; }
  constexpr bool contains(int64_t i) const { return begin <= i && i < end; }
  friend constexpr bool operator==(Range x, Range y) {
    return x.begin == y.begin && x.end == y.end;
  }
};

constexpr Range intersect(Range x, Range y) {
  return {std::max(x.begin, y.begin), std::min(x.end, y.end)};
}

// A tile's place in the matrix of similarities; both ranges are of rows of z.
struct Tile {
  Range rows;
  Range columns;
  bool diagonal;  // the columns are the rows: the tile holds s_ij and s_ji
};

}  // namespace simclr
