// Every instruction set's kernels on bfloat16 against plain loops, at sizes around the width of a
// vector.

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/simd/kernels.h"

using namespace simclr::simd;
using c10::BFloat16;

namespace {

std::vector<float> random_floats(int64_t count) {
  std::mt19937 random(static_cast<unsigned>(count));
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<uint16_t> random_halves(int64_t count) {
  std::vector<uint16_t> halves;
  for (const float value : random_floats(count)) halves.push_back(BFloat16(value).x);
  return halves;
}

float to_float(uint16_t bits) { return BFloat16(bits, BFloat16::from_bits()); }

void test_rounding(const HalfKernels& kernels) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float tie = 1 + 1.0F / 256;  // halfway between 1 and 1 + 1/128
  std::vector<float> values = {
      0.0F,           -0.0F,           1.0F,     tie,       std::nextafter(tie, 2.0F),
      3 * tie,        1e-42F,          infinity, -infinity, 3e38F,
      std::nanf("1"), -std::nanf("77")};
  for (const float value : random_floats(100)) values.push_back(value);
  std::vector<uint16_t> halves(values.size());
  kernels.narrow(values.data(), values.size(), halves.data());
  for (size_t k = 0; k < values.size(); ++k) {
    const float expected = BFloat16(values[k]);
    const float found = to_float(halves[k]);
    EXPECT(found == expected || (std::isnan(found) && std::isnan(expected)), k, values[k], found);
  }
  std::vector<float> widened(values.size());
  kernels.widen(halves.data(), halves.size(), 0.5F, widened.data());
  for (size_t k = 0; k < values.size(); ++k) {
    const float expected = to_float(halves[k]) / 2;
    EXPECT(widened[k] == expected || (std::isnan(widened[k]) && std::isnan(expected)), k);
  }
}

void test_scale(const HalfKernels& kernels, int64_t rows, int64_t columns) {
  const int64_t stride = columns + 3;
  const std::vector<float> s = random_floats(rows * stride);
  const std::vector<float> row_factor = random_floats(rows);
  const std::vector<float> column_factor = random_floats(columns + 1);
  std::vector<float> found = s;
  kernels.scale(found.data(), rows, columns, stride, row_factor.data(), column_factor.data());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < stride; ++c) {
      const float value = s[r * stride + c];
      const float expected = c < columns ? value * (row_factor[r] * column_factor[c]) : value;
      const float error = std::abs(found[r * stride + c] - expected);
      EXPECT(error <= 4e-7F * std::abs(expected), rows, columns, r, c);
    }
  }
}

void test_packing(const HalfKernels& kernels, int64_t rows, int64_t columns) {
  constexpr int64_t kWidth = 64;
  const int64_t even_rows = rows + rows % 2;
  const int64_t even_columns = columns + columns % 2;
  const std::vector<uint16_t> from = random_halves(rows * even_columns);
  std::vector<uint16_t> to(even_columns * kWidth);
  kernels.transpose_pairs(from.data(), rows, even_columns, to.data(), kWidth);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t d = 0; d < even_columns; ++d) {
      EXPECT(to[(d / 2 * kWidth + r) * 2 + d % 2] == from[r * even_columns + d], rows, d, r);
    }
  }
  to.assign(even_rows * kWidth, 7);
  kernels.interleave_rows(from.data(), rows, columns, even_columns, to.data(), kWidth);
  for (int64_t r = 0; r < even_rows; ++r) {
    for (int64_t c = 0; c < columns; ++c) {
      const uint16_t expected = r < rows ? from[r * even_columns + c] : 0;
      EXPECT(to[(r / 2 * kWidth + c) * 2 + r % 2] == expected, rows, columns, r, c);
    }
  }
}

void test_weights(const HalfKernels& kernels, int64_t rows, int64_t columns) {
  const int64_t stride = columns + 5;
  const std::vector<float> w = random_floats(rows * stride);
  const std::vector<float> of_row = random_floats(rows);
  const std::vector<float> of_column = random_floats(columns + 1);
  const int64_t even_rows = rows + rows % 2;
  const int64_t even_columns = columns + columns % 2;
  std::vector<uint16_t> by_row(rows * even_columns, 7);
  kernels.round_rows(w.data(), rows, columns, stride, of_column.data(), by_row.data(),
                     even_columns);
  std::vector<uint16_t> turned(columns * even_rows, 7);
  kernels.round_transposed(w.data(), rows, columns, stride, of_row.data(), turned.data(),
                           even_rows);
  for (int64_t r = 0; r < even_rows; ++r) {
    for (int64_t c = 0; c < even_columns; ++c) {
      const bool inside = r < rows && c < columns;
      const float value = inside ? w[r * stride + c] : 0;
      const float by_column = inside ? value * of_column[c] : 0;
      const float by_own_row = inside ? value * of_row[r] : 0;
      if (r < rows) {
        EXPECT(by_row[r * even_columns + c] == BFloat16(by_column).x, rows, columns, r, c);
      }
      if (c < columns) {
        EXPECT(turned[c * even_rows + r] == BFloat16(by_own_row).x, rows, columns, r, c);
      }
    }
  }
}

}  // namespace

int main() {
  for (const std::string& isa : available_isas()) {
    const int before = failures;
    const HalfKernels kernels = half_kernels_for(isa);
    test_rounding(kernels);
    for (int64_t rows : {1, 2, 3, 15, 16, 17, 33, 64}) {
      for (int64_t columns : {1, 2, 3, 15, 16, 17, 31, 48, 64}) {
        test_scale(kernels, rows, columns);
        test_packing(kernels, rows, columns);
        test_weights(kernels, rows, columns);
      }
    }
    std::cout << isa << ": " << failures - before << " failures" << std::endl;
  }
  return std::min(failures, 100);
}
