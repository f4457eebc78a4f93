// The by-products of the contrastive operators by the fused CUDA kernels, run on the simulated GPU,
// against the dense computation in double.
//
//   test_stats PRECISION [SEED]      bf16, fp16, tf32 or tf32x3

#include <torch/types.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "../cpp/check.h"
#include "contrastive_inputs.h"
#include "cuda/host.h"
#include "precision.h"
#include "simclr_ext.h"
#include "simt.h"

namespace {

// Of all rows of z, [count] each.
struct Stats {
  at::Tensor lse;
  at::Tensor positive;  // 0 without positives
  at::Tensor mean;      // 0 without terms, like the next two
  at::Tensor near;
  at::Tensor hardest;  // 0 without negatives
};

// The similarities of all rows of z and all columns of each of them, [count, count], and masks:
// which are positives, and which are terms.
struct Pairs {
  at::Tensor similarities;
  at::Tensor positives;
  at::Tensor terms;
};

// Puts the pairs of rows and columns [R, C] and their transpose into one matrix of all rows of z.
at::Tensor of_both_sides(const Inputs& in, const at::Tensor& pairs) {
  if (!in.y) return pairs;
  const int64_t rows = in.c.rows;
  const int64_t size = rows + in.c.columns;
  at::Tensor both = torch::zeros({size, size}, pairs.options());
  both.narrow(0, 0, rows).narrow(1, rows, in.c.columns).copy_(pairs);
  both.narrow(0, rows, in.c.columns).narrow(1, 0, rows).copy_(pairs.t());
  return both;
}

Pairs pairs_of(const Inputs& in, at::ScalarType dtype) {
  const at::Tensor all = in.all_rows().to(dtype);
  const at::Tensor z = in.c.normalize ? all / all.norm(2, 1, true).clamp_min(kEps) : all;
  return {z.mm(z.t()), of_both_sides(in, in.positives()), of_both_sides(in, in.terms())};
}

Stats dense(const Inputs& in, at::ScalarType dtype) {
  const auto [s, positives, terms] = pairs_of(in, dtype);
  const at::Tensor zero = torch::zeros({}, s.options());
  const at::Tensor logits = (s / in.c.temperature).masked_fill(~terms, -INFINITY);
  const at::Tensor negatives = terms & ~positives;
  const at::Tensor hardest = std::get<0>(s.masked_fill(~negatives, -INFINITY).max(1));
  const auto of_terms = [&](const at::Tensor& values) {
    return torch::where(terms.any(1), values, zero);
  };
  return {of_terms(logits.logsumexp(1)),
          torch::where(positives, s, zero).sum(1) / positives.sum(1).clamp_min(1),
          of_terms((logits.softmax(1) * s).sum(1)),
          torch::where(negatives, (4 * (s - 1)).exp(), zero).sum(1),
          torch::where(negatives.any(1), hardest, zero)};
}

simclr::StatsResult stats_of(const Inputs& in) {
  return simclr::contrastive_stats(in.x, in.y, held_temperature(in.c.temperature), in.c.normalize,
                                   kEps, in.c.shifts, in.label, in.ignored);
}

void compare(const Precision& precision, const Inputs& in) {
  const auto [loss, lse, z, inv_norm, positive, hardest, index, mean, near] = stats_of(in);
  const auto [s, positives, terms] = pairs_of(in, torch::kDouble);
  const at::Tensor negatives = terms & ~positives;
  const Stats exact = dense(in, torch::kDouble);
  const Stats eager = dense(in, torch::kFloat);
  // What is not there.
  EXPECT(torch::equal(positive.isnan(), ~positives.any(1)), in.c, positive);
  EXPECT(torch::equal(mean.isnan(), ~terms.any(1)), in.c, mean);
  EXPECT(torch::equal(hardest == -INFINITY, ~negatives.any(1)), in.c, hardest);
  EXPECT(torch::equal(index == -1, ~negatives.any(1)), in.c, index);
  const auto there = [](const at::Tensor& values, const at::Tensor& mask) {
    return torch::where(mask, values, torch::zeros_like(values));
  };
  const double square =
      in.c.normalize
          ? 1
          : std::pow(in.all_rows().to(torch::kDouble).norm(2, 1).max().item<double>(), 2);
  const double of_logits = precision.product_epsilon * square / in.c.temperature;
  const double root = std::sqrt(static_cast<double>(exact.lse.numel()));
  const auto expect = [&](const char* name, const at::Tensor& ours, at::Tensor Stats::* part,
                          double error) {
    // No result is of a half type.
    Precision floats = precision;
    floats.least = 0;
    expect_within_budget(floats, in.c, {name, ours, exact.*part, eager.*part}, 1, error);
  };
  const double of_similarities = root * square * precision.product_epsilon;
  expect("lse", there(lse, terms.any(1)), &Stats::lse,
         root * of_logits + std::exp2(-23) * exact.lse.norm().item<double>());
  expect("positive", there(positive, positives.any(1)), &Stats::positive, of_similarities);
  // An error of the logits is one of the weights.
  expect("mean", there(mean, terms.any(1)), &Stats::mean,
         of_similarities + root * square * (of_logits + std::exp2(-23)));
  expect(
      "near", near, &Stats::near,
      exact.near.norm().item<double>() * (4 * square * precision.product_epsilon + std::exp2(-21)));
  expect("hardest", there(hardest, negatives.any(1)), &Stats::hardest, of_similarities);
  // That row is a negative, and as similar as was said.
  const at::Tensor rows = negatives.any(1).nonzero().squeeze(1);
  const at::Tensor columns = index.index({rows});
  EXPECT(negatives.index({rows, columns}).all().item<bool>(), in.c, index);
  const at::Tensor difference = s.index({rows, columns}) - hardest.index({rows}).to(torch::kDouble);
  EXPECT(difference.norm().item<double>() <= 16 * of_similarities, in.c, difference);
}

void check(const Precision& precision, const Case& c) {
  compare(precision, Inputs(c, precision.dtype));
}

constexpr double kTemperatures[] = {0.5, 0.01};

void test_forms(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    check(precision, {140, 0, 9, {70, -70}, 0, temperature});
    check(precision, {410, 0, 9, {205, -205}, 0, temperature});
    check(precision, {70, 141, 20, {0}, 0, temperature});
    check(precision, {130, 65, 20, {3}, 0, temperature});
    check(precision, {140, 0, 9, {}, 12, temperature});
    check(precision, {90, 70, 9, {}, 9, temperature});
    check(precision, {66, 0, 9, {33, -33}, 0, temperature, true, "all", /*ids=*/4});
  }
  for (const int64_t dim : {32, 64, 128, 256}) check(precision, {66, 0, dim, {33, -33}});
  check(precision, {150, 0, 256, {75, -75}});
}

// One pair; rows without positives, without negatives, without anything.
void test_few_rows(const Precision& precision) {
  check(precision, {2, 0, 5, {1, -1}});
  check(precision, {1, 1, 5, {0}});
  check(precision, {1, 9, 5, {0}});
  check(precision, {5, 3, 5, {0, 1}});
  check(precision, {40, 0, 5, {}});
  check(precision, {40, 0, 5, {}, /*classes=*/1});
  check(precision, {40, 0, 5, {}, /*classes=*/2, 0.5, true, "all", /*ids=*/1});
}

void test_extremes(const Precision& precision) {
  for (const double temperature : {0.002, 30.0}) {
    check(precision, {140, 0, 12, {70, -70}, 0, temperature});
  }
  check(precision, {140, 0, 12, {70, -70}, 0, 2.0, /*normalize=*/false});
}

void test_temperature_in_device_memory(const Precision& precision) {
  const simclr::fused::NumbersInDeviceMemory guard;
  test_extremes(precision);
}

// Of equally similar negatives the first counts, wherever it is in tiles, strips and lanes. Of both
// sides, three rows repeat.
void test_ties(const Precision& precision) {
  for (const auto& [rows, columns] :
       std::vector<std::array<int64_t, 2>>{{300, 0}, {70, 300}, {300, 70}}) {
    Inputs in({rows, columns, 6, {}}, precision.dtype);
    const auto repeat = [](const at::Tensor& z) {
      return z.index({torch::arange(z.size(0)) % 3}).contiguous();
    };
    in.x = repeat(in.x);
    if (in.y) in.y = repeat(*in.y);
    const at::Tensor index = std::get<6>(stats_of(in));
    const at::Tensor i = torch::arange(rows + columns);
    if (in.y) {  // the first of the other side's three rows
      const at::Tensor other = torch::where(i < rows, rows, 0);
      EXPECT(((other <= index) & (index < other + 3)).all().item<bool>(), in.c, index);
    } else {  // an equal row, which is not the row itself
      EXPECT(torch::equal(index, torch::where(i < 3, i + 3, i % 3)), in.c, index);
    }
  }
}

// The losses are those without by-products, but for rounding: their shifts may differ.
void test_losses_are_the_same(const Precision& precision) {
  const Inputs in({140, 0, 9, {70, -70}}, precision.dtype);
  const auto plain = simclr::contrastive_forward(in.x, in.y, held_temperature(in.c.temperature),
                                                 true, kEps, in.c.shifts, {}, {}, "all", {});
  const auto stats = stats_of(in);
  EXPECT(error(std::get<0>(stats), std::get<0>(plain).to(torch::kDouble)) <= 1e-4, precision.name);
  EXPECT(torch::equal(std::get<2>(stats), std::get<2>(plain)), precision.name);
  EXPECT(torch::equal(std::get<3>(stats), std::get<3>(plain)), precision.name);
}

// The order of blocks and threads is the machine's own business.
void test_same_bits_in_any_order(const Precision& precision) {
  const Inputs in({210, 150, 14, {}, 9}, precision.dtype);
  const auto first = stats_of(in);
  simt::set_seed(12345);
  const auto second = stats_of(in);
  EXPECT(torch::equal(std::get<5>(first), std::get<5>(second)), in.c);
  EXPECT(torch::equal(std::get<6>(first), std::get<6>(second)), in.c);
  EXPECT(torch::equal(std::get<7>(first), std::get<7>(second)), in.c);
  EXPECT(torch::equal(std::get<8>(first), std::get<8>(second)), in.c);
}

}  // namespace

int main(int argc, char** argv) {
  using Test = void (*)(const Precision&);
  return run_tests<Test>(
      argc, argv,
      {test_few_rows, test_losses_are_the_same, test_ties, test_extremes,
       test_temperature_in_device_memory, test_forms, test_same_bits_in_any_order});
}
