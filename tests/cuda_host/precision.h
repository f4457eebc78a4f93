// The precisions of the fused kernels, and the budget of their errors against the dense computation
// in double: twice that of the dense computation in float, plus eight roundings of the precision at
// the natural size of the quantity. Eight, because tensor cores cut sums off, and what they lose
// all has one sign: at D = 256 it takes half the budget of 3xTF32, an eighth of bf16's.

#pragma once

#include <ATen/Context.h>
#include <torch/types.h>

#include <cmath>
#include <string>
#include <vector>

#include "../cpp/check.h"
#include "cuda/products.h"
#include "simt.h"

double error(const at::Tensor& value, const at::Tensor& exact) {
  return (value.to(torch::kDouble) - exact).norm().item<double>();
}

struct Precision {
  std::string name;
  at::ScalarType dtype;
  double product_epsilon;  // of what is multiplied first
  double weight_epsilon;   // of the weights and of the result
  double least;            // positive number of the result
};

// The losses of all rows, and the gradients of their sum with the weights `row_weights`.
struct Result {
  at::Tensor loss;              // [rows]
  at::Tensor grad_z;            // [rows, D]
  at::Tensor grad_temperature;  // []
};

// Weights that tell every row from the others.
at::Tensor row_weights(int64_t rows) {
  return torch::linspace(0.5, 1.5, rows, torch::kDouble) / rows;
}

// The temperature that a float holds, not its decimal.
at::Tensor held_temperature(double temperature) {
  return torch::scalar_tensor(static_cast<float>(temperature), torch::kDouble);
}

// A quantity as the kernels compute it, and as the dense computation does in double and in float.
struct Quantity {
  const char* name;
  at::Tensor ours;
  at::Tensor exact;
  at::Tensor eager;
};

// epsilon: the rounding of the precision.
// size: the natural size of the quantity.
template <typename Case>
void expect_within_budget(const Precision& precision, const Case& c, const Quantity& quantity,
                          double epsilon, double size) {
  const double found = error(quantity.ours, quantity.exact);
  const double budget = 2 * error(quantity.eager, quantity.exact) + 8 * epsilon * size +
                        precision.least * std::sqrt(quantity.exact.numel());
  EXPECT(found <= budget, precision.name, quantity.name, c, found, budget);
}

// Compares with what the dense computation gives in double (`exact`) and in float (`eager`).
//   c     has temperature and normalize
//   rows  of both sides, unnormalized; they are divided by eps where they are shorter
template <typename Case>
void expect_within_budget(const Precision& precision, const Case& c, const Result& ours,
                          const Result& exact, const Result& eager, const at::Tensor& rows,
                          double eps) {
  const auto expect = [&](const char* name, at::Tensor Result::* part, double epsilon,
                          double size) {
    expect_within_budget(precision, c, {name, ours.*part, exact.*part, eager.*part}, epsilon, size);
  };
  const at::Tensor norms = rows.to(torch::kDouble).norm(2, 1);
  const double square = c.normalize ? 1 : std::pow(norms.max().item<double>(), 2);
  const double length =
      c.normalize ? 1 / norms.clamp_min(eps).min().item<double>() : norms.max().item<double>();
  const double root = std::sqrt(static_cast<double>(norms.numel()));
  expect("loss", &Result::loss, precision.product_epsilon,
         exact.loss.norm().item<double>() + root * square / c.temperature);
  // An error of a similarity is one of 1 / T times its size in a logit, hence in a probability.
  const double epsilon =
      precision.weight_epsilon + precision.product_epsilon * square / c.temperature;
  expect("grad_z", &Result::grad_z, epsilon,
         exact.grad_z.norm().item<double>() + length / c.temperature / root);
  expect("grad_temperature", &Result::grad_temperature, epsilon,
         square / c.temperature / c.temperature);
}

// Runs the tests with the precision that the command line names, the quick ones first, and no
// further than the first that fails: `test PRECISION [SEED]`. With "wide" at the end, as if all
// rows were too wide for the kernels that multiply.
template <typename Test>
int run_tests(int argc, char** argv, const std::vector<Test>& tests) {
  const std::vector<Precision> precisions = {
      {"bf16", torch::kBFloat16, std::exp2(-23), std::exp2(-8), 0},
      {"fp16", torch::kHalf, std::exp2(-23), std::exp2(-11), std::exp2(-24)},
      {"tf32", torch::kFloat, std::exp2(-11), std::exp2(-11), 0},
      // 22 bits of the factors count, where float has 24.
      {"tf32x3", torch::kFloat, std::exp2(-22), std::exp2(-23), 0},
  };
  if (argc > 1 && std::string(argv[argc - 1]) == "wide") {
    simclr::fused::largest_narrow_dim = 0;
    --argc;
  }
  const std::string name = argc > 1 ? argv[1] : "";
  const uint64_t seed = argc > 2 ? std::stoull(argv[2]) : 0;
  for (const Precision& precision : precisions) {
    if (precision.name != name) continue;
    at::globalContext().setFloat32Precision(
        at::Float32Backend::CUDA, at::Float32Op::MATMUL,
        name == "tf32" ? at::Float32Precision::TF32 : at::Float32Precision::IEEE);
    // Memory that nobody wrote is NaN.
    at::globalContext().setDeterministicAlgorithms(true, false);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
    torch::manual_seed(seed);
    simt::set_seed(seed);
    for (const Test& test : tests) {
      test(precision);
      if (failures > 0) break;
    }
    return failures;
  }
  std::cerr << "usage: " << argv[0] << " bf16|fp16|tf32|tf32x3 [SEED] [wide]" << std::endl;
  return 2;
}
