// Which rows are compared, which of their pairs count, which are positives, and which are terms of
// the log-sum-exp: in this the contrastive losses differ.
//
// All rows are in one buffer z, and i and j are rows of z:
//
//   NT-Xent, SupCon   z = [z0; z1]: rows and columns are all of z
//   InfoNCE, a queue  z = [x; y]: the rows are x, the columns y
//   a rank's share    z of the whole batch: the rows are the rank's own, the columns all

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "common/range.h"

namespace simclr {

struct Problem {
  Range rows;     // of z
  Range columns;  // of z

  // The number of rows of z.
  constexpr int64_t count() const { return std::max(rows.end, columns.end); }
  // Rows and columns are the same: S is symmetric, and half of it is enough.
  constexpr bool symmetric() const { return rows == columns; }
  // Whether the rows are also columns; then the pairs (i, i) do not count.
  constexpr bool same() const { return columns.contains(rows.begin); }
  // Whether columns have losses too; in a rank's share they are rows of other ranks.
  constexpr bool has_column_results() const { return symmetric() || !same(); }
  // How many columns count for a row, and how many rows for a column.
  constexpr int64_t counted_columns() const { return columns.size() - (same() ? 1 : 0); }
  constexpr int64_t counted_rows() const { return rows.size() - (same() ? 1 : 0); }
  // The columns as rows: S^T.
  constexpr Problem transposed() const { return {columns, rows}; }
};

// The pairs that are terms of a row's log-sum-exp.
enum class Denominator { kAll, kNegatives, kPositives };

struct Pairing {
  static constexpr int kMaxShifts = 2;

  bool skip_self;             // the pairs (i, i) do not count
  int shifts;                 // how many of `shift` there are
  int64_t shift[kMaxShifts];  // row i's positives are the columns i + shift[k]
  const int32_t* label;       // [count] or null: the positives are the columns with an equal label
  Denominator denominator = Denominator::kAll;
  const int32_t* ignored = nullptr;  // [count] or null: pairs of equal id that are not positive are
                                     // left out

  constexpr bool counts(int64_t i, int64_t j) const { return !(skip_self && i == j); }
  constexpr bool positive(int64_t i, int64_t j) const {
    if (!counts(i, j)) return false;
    if (label != nullptr) return label[i] == label[j];
    for (int k = 0; k < kMaxShifts; ++k) {
      if (k < shifts && j == i + shift[k]) return true;
    }
    return false;
  }
  // Whether some pairs that count are not terms of the log-sum-exp.
  constexpr bool leaves_out() const {
    return denominator != Denominator::kAll || ignored != nullptr;
  }
  constexpr bool sums_positives() const { return denominator != Denominator::kNegatives; }
  // Whether a pair is a term of the log-sum-exp.
  constexpr bool summed(int64_t i, int64_t j) const {
    if (!counts(i, j)) return false;
    if (positive(i, j)) return sums_positives();
    const bool equal_ids = ignored != nullptr && ignored[i] == ignored[j];
    return denominator != Denominator::kPositives && !equal_ids;
  }
  // The pairing of the transposed problem.
  constexpr Pairing transposed() const {
    Pairing other = *this;
    for (int k = 0; k < kMaxShifts; ++k) other.shift[k] = -shift[k];
    return other;
  }
  // The rows of a tile whose positive of the k-th shift is one of its columns.
  constexpr Range rows_with_shift(const Tile& tile, int k) const {
    return intersect(tile.rows, {tile.columns.begin - shift[k], tile.columns.end - shift[k]});
  }

  // Calls visit(i, j) for the positives in a tile.
  template <typename Visit>
  void for_each_positive(const Tile& tile, const Visit& visit) const {
    for (int k = 0; k < shifts; ++k) {
      const Range rows = rows_with_shift(tile, k);
      for (int64_t i = rows.begin; i < rows.end; ++i) visit(i, i + shift[k]);
    }
    if (label == nullptr) return;
    for_each_equal(label, tile, [&](int64_t i, int64_t j) {
      if (counts(i, j)) visit(i, j);
    });
  }

  // Calls visit(i, j) for the pairs of a tile that are not terms of the log-sum-exp.
  template <typename Visit>
  void for_each_left_out(const Tile& tile, const Visit& visit) const {
    if (denominator == Denominator::kNegatives) for_each_positive(tile, visit);
    const auto visit_left_out = [&](int64_t i, int64_t j) {
      if (!summed(i, j)) visit(i, j);
    };
    if (denominator == Denominator::kPositives) {
      for (int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
        for (int64_t j = tile.columns.begin; j < tile.columns.end; ++j) visit_left_out(i, j);
      }
    } else if (ignored != nullptr) {
      for_each_equal(ignored, tile, visit_left_out);
    }
  }

  // Calls visit(i, j) for the pairs of a tile with equal numbers, row by row.
  template <typename Visit>
  static void for_each_equal(const int32_t* numbers, const Tile& tile, const Visit& visit) {
    std::vector<std::pair<int32_t, int64_t>> columns;  // sorted: few pairs are looked at
    columns.reserve(tile.columns.size());
    for (int64_t j = tile.columns.begin; j < tile.columns.end; ++j) {
      columns.emplace_back(numbers[j], j);
    }
    std::sort(columns.begin(), columns.end());
    for (int64_t i = tile.rows.begin; i < tile.rows.end; ++i) {
      const std::pair<int32_t, int64_t> first{numbers[i], tile.columns.begin};
      auto next = std::lower_bound(columns.begin(), columns.end(), first);
      for (; next != columns.end() && next->first == numbers[i]; ++next) visit(i, next->second);
    }
  }
};

}  // namespace simclr
