// The cases of the contrastive operators' tests, with their inputs.

#pragma once

#include <torch/types.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

constexpr double kEps = 1e-12;

struct Case {
  int64_t rows;
  int64_t columns;  // 0: the rows are the columns, too
  int64_t dim;
  std::vector<int64_t> shifts = {};
  int64_t classes = 0;  // of labels, in the place of shifts
  double temperature = 0.5;
  bool normalize = true;
  const char* denominator = "all";
  int64_t ids = 0;      // of how many kinds are the numbers that are left out, if equal
  bool of_lse = false;  // the objective has the lse, too
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "R = " << c.rows << ", C = " << c.columns << ", D = " << c.dim
             << ", shifts = " << at::IntArrayRef(c.shifts) << ", classes = " << c.classes
             << ", T = " << c.temperature << (c.normalize ? "" : ", dot products") << ", of "
             << c.denominator << ", ids = " << c.ids << (c.of_lse ? ", lse" : "");
}

// A case with its inputs.
struct Inputs {
  Case c;
  at::Tensor x;
  std::optional<at::Tensor> y;
  std::optional<at::Tensor> label;
  std::optional<at::Tensor> ignored;

  // Columns as similar to the rows as those of a half-trained encoder, rows of many lengths.
  Inputs(const Case& c_, at::ScalarType dtype) : c(c_) {
    x = torch::randn({c.rows, c.dim}) * torch::rand({c.rows, 1}).add(0.2);
    if (c.columns > 0) {
      const int64_t both = std::min(c.rows, c.columns);
      y = torch::randn({c.columns, c.dim});
      y->narrow(0, 0, both) += 1.25 * x.narrow(0, 0, both);
      y = y->to(dtype);
    }
    x = x.to(dtype);
    // 2^24 + 1 is no float.
    const int64_t size = c.rows + c.columns;
    if (c.classes > 0) label = torch::randint(c.classes, {size}, torch::kInt) + (1 << 24);
    if (c.ids > 0) ignored = torch::randint(c.ids, {size}, torch::kInt) + (1 << 24);
  }

  at::Tensor all_rows() const { return y ? torch::cat({x, *y}) : x; }
  // Which columns have the number of a row, [R, C].
  at::Tensor equal(const at::Tensor& numbers) const {
    const at::Tensor of_columns = y ? numbers.narrow(0, c.rows, c.columns) : numbers;
    return numbers.narrow(0, 0, c.rows).unsqueeze(1) == of_columns;
  }
  at::Tensor distance() const {
    return torch::arange(y ? c.columns : c.rows) - torch::arange(c.rows).unsqueeze(1);
  }
  // Which columns are positives of which rows, [R, C], and which are terms of their lse.
  at::Tensor positives() const {
    at::Tensor mask = torch::zeros_like(distance(), torch::kBool);
    for (const int64_t shift : c.shifts) mask |= distance() == shift;
    if (label) mask |= equal(*label);
    return y ? mask : mask & (distance() != 0);
  }
  at::Tensor terms() const {
    const std::string denominator = c.denominator;
    const at::Tensor positive = positives();
    at::Tensor mask = torch::ones_like(positive);
    if (denominator == "negatives") mask = ~positive;
    if (denominator == "positives") mask = positive;
    if (ignored) mask = mask & (positive | ~equal(*ignored));
    return y ? mask : mask & (distance() != 0);
  }
};
