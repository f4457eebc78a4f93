// How many positives each row has, computed from the pairing.

#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/pairing.h"

namespace simclr {

// In a rank's share: for all rows of the batch, over all columns.
inline std::vector<int64_t> count_positives(const Problem& problem, const Pairing& pairing) {
  std::vector<int64_t> positives(problem.count(), 0);
  const Range rows = problem.same() ? problem.columns : problem.rows;
  if (pairing.label == nullptr) {
    pairing.for_each_positive({rows, problem.columns, false}, [&](int64_t i, int64_t j) {
      ++positives[i];
      if (!problem.same()) ++positives[j];
    });
    return positives;
  }
  const auto count_labels = [&](Range part) {
    std::unordered_map<int32_t, int64_t> of_label;
    for (int64_t i = part.begin; i < part.end; ++i) ++of_label[pairing.label[i]];
    return of_label;
  };
  const auto among = [&](const std::unordered_map<int32_t, int64_t>& of_label, int64_t i) {
    const auto found = of_label.find(pairing.label[i]);
    return found == of_label.end() ? 0 : found->second;
  };
  const auto of_columns = count_labels(problem.columns);
  const int64_t self = pairing.skip_self ? 1 : 0;
  for (int64_t i = rows.begin; i < rows.end; ++i) positives[i] = among(of_columns, i) - self;
  if (problem.same()) return positives;
  const auto of_rows = count_labels(rows);
  for (int64_t j = problem.columns.begin; j < problem.columns.end; ++j) {
    positives[j] = among(of_rows, j);
  }
  return positives;
}

}  // namespace simclr
