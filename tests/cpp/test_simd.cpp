// Every instruction set's kernels against plain loops in long double, at every size around the
// width of a vector and misaligned.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/simd/kernels.h"

using namespace simclr::simd;

// A tile one element off the alignment, with its padding of -inf, and the shifts of its rows and
// columns.
template <typename T>
struct Case {
  Case(int64_t rows, int64_t columns, bool shared)
      : rows(rows),
        columns(columns),
        padded((columns + kColumnPadding - 1) / kColumnPadding * kColumnPadding) {
    std::mt19937 random(static_cast<unsigned>(rows * 1000 + columns));
    std::uniform_real_distribution<T> similarity(-1, 1);
    buffer.assign(rows * padded + 1, -std::numeric_limits<T>::infinity());
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < columns; ++c) at(r, c) = similarity(random);
    }
    for (int64_t r = 0; r < rows; ++r) row_shift.push_back(shared ? 1 : similarity(random) + 1);
    for (int64_t c = 0; c < padded; ++c) col_shift.push_back(shared ? 1 : similarity(random) + 1);
    for (int64_t r = 0; r < rows; ++r) row_weight.push_back(similarity(random));
    for (int64_t c = 0; c < padded; ++c) col_weight.push_back(similarity(random));
  }
  T& at(int64_t r, int64_t c) { return buffer[1 + r * padded + c]; }
  TileData<T> tile() { return {buffer.data() + 1, rows, padded, padded}; }

  int64_t rows, columns, padded;
  std::vector<T> buffer, row_shift, col_shift, row_weight, col_weight;
};

template <typename T>
void check_near(T value, long double truth, long double scale, const char* what, int64_t i) {
  const long double error = std::abs(value - truth);
  EXPECT(error <= 8 * std::numeric_limits<T>::epsilon() * scale, what, i, value, truth);
}

template <typename T>
void test_tile_kernels(const Kernels<T>& kernels, int64_t rows, int64_t columns, bool shared) {
  Case<T> c(rows, columns, shared);
  const T scale = 3.5;
  const auto power = [&](int64_t i, int64_t j, T shift) {
    return std::exp2(static_cast<long double>(scale) *
                     (static_cast<long double>(c.at(i, j)) - shift));
  };

  std::vector<T> by_row(rows), by_col(c.padded);
  kernels.tile_max(c.tile(), by_row.data(), by_col.data());
  for (int64_t i = 0; i < rows; ++i) {
    EXPECT(by_row[i] == *std::max_element(&c.at(i, 0), &c.at(i, 0) + columns), rows, columns, i);
  }
  for (int64_t j = 0; j < columns; ++j) {
    T best = c.at(0, j);
    for (int64_t i = 1; i < rows; ++i) best = std::max(best, c.at(i, j));
    EXPECT(by_col[j] == best, rows, columns, j);
  }

  kernels.exp_sums(c.tile(), scale, c.row_shift.data(), c.col_shift.data(), by_row.data(),
                   by_col.data(), shared);
  for (int64_t i = 0; i < rows; ++i) {
    long double truth = 0;
    for (int64_t j = 0; j < columns; ++j) truth += power(i, j, c.row_shift[i]);
    check_near(by_row[i], truth, truth, "row sum", i);
  }
  for (int64_t j = 0; j < columns; ++j) {
    long double truth = 0;
    for (int64_t i = 0; i < rows; ++i) truth += power(i, j, c.col_shift[j]);
    check_near(by_col[j], truth, truth, "column sum", j);
  }

  Case<T> w = c;
  kernels.pair_weights(w.tile(), scale, c.row_shift.data(), c.col_shift.data(), c.row_weight.data(),
                       c.col_weight.data(), shared);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const long double x = c.row_weight[i] * power(i, j, c.row_shift[i]);
      const long double y = c.col_weight[j] * power(i, j, c.col_shift[j]);
      check_near(w.at(i, j), x + y, std::abs(x) + std::abs(y), "weight", i * columns + j);
    }
  }
}

// 2^x alone, as the weights of one row: over the whole range, at its ends and beyond them.
template <typename T>
void test_exp2(const Kernels<T>& kernels) {
  const T lowest = std::numeric_limits<T>::min_exponent - 1;  // the smallest normal power
  const int64_t count = 1 << 16;
  std::vector<T> x(count), zero(count, 0), one(count, 1);
  for (int64_t i = 0; i < count; ++i) x[i] = lowest * (i / static_cast<T>(count - 1));
  x[1] = std::nextafter(lowest, -std::numeric_limits<T>::infinity());
  x[2] = -std::numeric_limits<T>::infinity();
  x[3] = std::numeric_limits<T>::quiet_NaN();
  x[4] = std::numeric_limits<T>::lowest();
  x[5] = 30;
  std::vector<T> y = x;
  kernels.pair_weights({y.data(), 1, count, count}, 1, zero.data(), zero.data(), one.data(),
                       zero.data(), true);
  EXPECT(y[0] == 1, y[0]);
  EXPECT(y[1] == 0 && y[2] == 0 && y[4] == 0, y[1], y[2], y[4]);
  EXPECT(std::isnan(y[3]), y[3]);
  for (int64_t i = 5; i < count; ++i) {
    const long double truth = std::exp2(static_cast<long double>(x[i]));
    const long double ulp = std::abs(y[i] - truth) / truth / std::numeric_limits<T>::epsilon();
    EXPECT(ulp <= 2, i, x[i], y[i], ulp);
  }
}

// One pair at a time: softplus and sigmoid of u = scale s + bias over the whole range, its ends and
// beyond.
template <typename T>
void test_softplus(const Kernels<T>& kernels) {
  const T scale = 2, bias = -1;
  const int64_t count = 4001;
  for (int64_t i = 0; i < count; ++i) {
    T s[kColumnPadding];
    std::fill(s, s + kColumnPadding, -std::numeric_limits<T>::infinity());
    s[0] = static_cast<T>(100) * (2 * static_cast<T>(i) / (count - 1) - 1);
    if (i == 1) s[0] = std::numeric_limits<T>::lowest() / 4;
    if (i == 2) s[0] = std::numeric_limits<T>::max() / 4;
    const long double u = static_cast<long double>(scale) * s[0] + bias;
    const long double e = std::exp(-std::abs(u));
    const long double softplus = std::max(u, 0.0L) + std::log1p(e);
    const long double sigmoid = (u < 0 ? e : 1) / (1 + e);
    const T one = 1;
    T softplus_sum, sigmoid_sum;
    const TileData<T> tile{s, 1, kColumnPadding, kColumnPadding};
    kernels.softplus_sums(tile, scale, bias, &softplus_sum, &sigmoid_sum);
    kernels.sigmoid_weights(tile, scale, bias, &one);
    // The rounding of u and of its product with log2(e) is an error of e^u relative to |u|, and
    // below the smallest normal power e^u is 0.
    const long double least = std::numeric_limits<T>::min() / std::numeric_limits<T>::epsilon();
    check_near(softplus_sum, softplus, (1 + std::abs(u)) * softplus + least, "softplus", i);
    check_near(sigmoid_sum, sigmoid, (1 + std::abs(u)) * sigmoid + least, "sigmoid", i);
    EXPECT(s[0] == sigmoid_sum && s[1] == 0, i, s[0], sigmoid_sum, s[1]);
  }
  T nan[kColumnPadding] = {std::numeric_limits<T>::quiet_NaN()};
  T softplus_sum, sigmoid_sum;
  kernels.softplus_sums({nan, 1, kColumnPadding, kColumnPadding}, 1, 0, &softplus_sum,
                        &sigmoid_sum);
  EXPECT(std::isnan(softplus_sum) && std::isnan(sigmoid_sum), softplus_sum, sigmoid_sum);
}

template <typename T>
void test_softplus_sums(const Kernels<T>& kernels, int64_t rows, int64_t columns) {
  Case<T> c(rows, columns, true);
  std::vector<T> softplus(rows), sigmoid(rows);
  kernels.softplus_sums(c.tile(), 3.5, -0.5, softplus.data(), sigmoid.data());
  for (int64_t i = 0; i < rows; ++i) {
    long double softplus_truth = 0, sigmoid_truth = 0;
    for (int64_t j = 0; j < columns; ++j) {
      const long double u = 3.5L * c.at(i, j) - 0.5L;
      softplus_truth += std::log1p(std::exp(u));
      sigmoid_truth += 1 / (1 + std::exp(-u));
    }
    check_near(softplus[i], softplus_truth, softplus_truth, "softplus sum", i);
    check_near(sigmoid[i], sigmoid_truth, sigmoid_truth, "sigmoid sum", i);
  }
  Case<T> w = c;
  kernels.sigmoid_weights(w.tile(), 3.5, -0.5, c.row_weight.data());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      const long double truth = c.row_weight[i] / (1 + std::exp(0.5L - 3.5L * c.at(i, j)));
      check_near(w.at(i, j), truth, std::abs(truth), "sigmoid weight", i * columns + j);
    }
  }
}

// dim elements a row, one of them all zeros and one shorter than eps, starting off the alignment.
template <typename T>
void test_row_kernels(const Kernels<T>& kernels, int64_t dim) {
  const int64_t rows = 4;
  const double eps = 1e-3;
  std::mt19937 random(static_cast<unsigned>(dim));
  std::normal_distribution<T> normal;
  std::vector<T> raw(1 + rows * dim), grad(raw.size()), inv_norm(rows);
  for (T& x : raw) x = normal(random);
  for (T& x : grad) x = normal(random);
  for (int64_t d = 0; d < dim; ++d) raw[1 + dim + d] = 0;
  for (int64_t d = 0; d < dim; ++d) raw[1 + 2 * dim + d] *= 1e-6;
  std::vector<T> z = raw, dz = grad;
  kernels.normalize_rows(z.data() + 1, rows, dim, eps, inv_norm.data());
  const double total =
      kernels.normalize_rows_backward(z.data() + 1, dz.data() + 1, rows, dim, eps, inv_norm.data());

  long double true_total = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const T* x = raw.data() + 1 + r * dim;
    const T* g = grad.data() + 1 + r * dim;
    long double square = 0, radial = 0, length = 0;
    for (int64_t d = 0; d < dim; ++d) square += static_cast<long double>(x[d]) * x[d];
    const long double norm = std::max<long double>(std::sqrt(square), eps);
    for (int64_t d = 0; d < dim; ++d) radial += x[d] / norm * g[d];
    for (int64_t d = 0; d < dim; ++d) length += std::abs(static_cast<long double>(g[d]));
    true_total += radial;
    for (int64_t d = 0; d < dim; ++d) {
      const long double along = std::sqrt(square) < eps ? 0 : radial * x[d] / norm;
      check_near(z[1 + r * dim + d], x[d] / norm, 1, "unit row", r * dim + d);
      check_near(dz[1 + r * dim + d], (g[d] - along) / norm, length / norm, "raw gradient",
                 r * dim + d);
    }
  }
  check_near<T>(static_cast<T>(total), true_total,
                rows * std::sqrt(static_cast<long double>(dim)) + 1, "radial", dim);
  EXPECT(z[0] == raw[0] && dz[0] == grad[0], dim);
}

// Turned matrices stand where they should, and nothing beside them is written.
template <typename T>
void test_transpose(const Kernels<T>& kernels, int64_t rows, int64_t columns) {
  const int64_t from_stride = columns + 3;
  const int64_t to_stride = rows + 5;
  std::vector<T> from(rows * from_stride + 1);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<T>(i);
  std::vector<T> to(columns * to_stride + 1, T(-1));
  const auto check = [&](T factor) {
    for (int64_t c = 0; c < columns; ++c) {
      for (int64_t r = 0; r < to_stride; ++r) {
        const T expected = r < rows ? factor * from[1 + r * from_stride + c] : T(-1);
        EXPECT(to[1 + c * to_stride + r] == expected, rows, columns, r, c);
      }
    }
  };
  kernels.transpose(from.data() + 1, rows, columns, from_stride, to.data() + 1, to_stride);
  check(1);
  kernels.add_transposed(from.data() + 1, rows, columns, from_stride, to.data() + 1, to_stride);
  check(2);
}

template <typename T>
void test_isa(const std::string& isa) {
  const Kernels<T> kernels = kernels_for<T>(isa);
  test_exp2(kernels);
  test_softplus(kernels);
  for (int64_t rows : {1, 2, 3, 4, 5, 7, 8, 64, 130}) {
    for (int64_t columns = 1; columns <= 70; ++columns) {
      for (bool shared : {true, false}) test_tile_kernels(kernels, rows, columns, shared);
      test_softplus_sums(kernels, rows, columns);
    }
  }
  for (int64_t dim = 1; dim <= 70; ++dim) test_row_kernels(kernels, dim);
  for (int64_t rows : {1, 2, 7, 8, 15, 16, 17, 33}) {
    for (int64_t columns : {1, 3, 8, 16, 31, 48}) test_transpose(kernels, rows, columns);
  }
}

int main() {
  for (const std::string& isa : available_isas()) {
    const int before = failures;
    test_isa<float>(isa);
    test_isa<double>(isa);
    std::cout << isa << ": " << failures - before << " failures" << std::endl;
  }
  return std::min(failures, 100);
}
