// The contrastive operators by the fused CUDA kernels, run on the simulated GPU, against the dense
// computation in double: rectangles, queues, labels and owned rows.
//
//   test_contrastive PRECISION [SEED]      bf16, fp16, tf32 or tf32x3

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "../cpp/check.h"
#include "contrastive_inputs.h"
#include "cuda/host.h"
#include "precision.h"
#include "simclr_ext.h"
#include "simt.h"

namespace {

// Losses of the rows of a matrix of logits, 0 without positives; and their lse, 0 without terms.
std::array<at::Tensor, 2> row_losses(const at::Tensor& logits, const at::Tensor& positives,
                                     const at::Tensor& terms) {
  const at::Tensor zeros = torch::zeros({logits.size(0)}, logits.options());
  const at::Tensor count = positives.sum(1);
  const at::Tensor mean =
      torch::where(positives, logits, torch::zeros_like(logits)).sum(1) / count.clamp_min(1);
  const at::Tensor has_terms = terms.any(1);
  // Rows without terms become rows of zeros: the gradient of their lse would be NaN.
  const at::Tensor masked = logits.masked_fill(~terms & has_terms.unsqueeze(1), -INFINITY);
  const at::Tensor lse = torch::where(has_terms, masked.logsumexp(1), zeros);
  return {torch::where(count > 0, lse, zeros) - mean, lse};
}

// The weights of the lse in the objective.
at::Tensor lse_weights(const Inputs& in) {
  const int64_t size = in.c.rows + in.c.columns;
  return in.c.of_lse ? -0.7 * row_weights(size).flip(0) : torch::zeros({size}, torch::kDouble);
}

Result dense(const Inputs& in, at::ScalarType dtype) {
  const at::Tensor all = in.all_rows().to(dtype).requires_grad_();
  const at::Tensor temperature = held_temperature(in.c.temperature).to(dtype).requires_grad_();
  const at::Tensor z = in.c.normalize ? all / all.norm(2, 1, true).clamp_min(kEps) : all;
  const at::Tensor x = z.narrow(0, 0, in.c.rows);
  const at::Tensor y = in.y ? z.narrow(0, in.c.rows, in.c.columns) : x;
  const at::Tensor logits = x.mm(y.t()) / temperature;
  auto [loss, lse] = row_losses(logits, in.positives(), in.terms());
  if (in.y) {
    const auto of_columns = row_losses(logits.t(), in.positives().t(), in.terms().t());
    loss = torch::cat({loss, of_columns[0]});
    lse = torch::cat({lse, of_columns[1]});
  }
  const at::Tensor objective =
      loss.dot(row_weights(loss.size(0)).to(dtype)) + lse.dot(lse_weights(in).to(dtype));
  const auto grads = torch::autograd::grad({objective}, {all, temperature});
  return {loss.detach(), grads[0], grads[1]};
}

using Saved = simclr::ForwardResult;

Saved forward(const Inputs& in, at::IntArrayRef owned = {}) {
  return simclr::contrastive_forward(in.x, in.y, held_temperature(in.c.temperature), in.c.normalize,
                                     kEps, in.c.shifts, in.label, in.ignored, in.c.denominator,
                                     owned);
}

Result backward(const Inputs& in, const Saved& saved, at::IntArrayRef owned = {},
                std::array<bool, 3> needs_grad = {true, true, true}) {
  const auto& [loss, lse, z, inv_norm] = saved;
  const std::optional<at::Tensor> grad_lse =
      in.c.of_lse ? std::optional(lse_weights(in)) : std::nullopt;
  const auto [grad_z, grad_temperature] = simclr::contrastive_backward(
      row_weights(loss.size(0)).to(torch::kFloat), grad_lse, loss, lse, z, inv_norm, in.c.dim,
      in.c.rows, held_temperature(in.c.temperature), kEps, in.c.shifts, in.label, in.ignored,
      in.c.denominator, owned, needs_grad);
  return {loss, grad_z, grad_temperature};
}

void compare(const Precision& precision, const Inputs& in, const Result& ours) {
  expect_within_budget(precision, in.c, ours, dense(in, torch::kDouble), dense(in, torch::kFloat),
                       in.all_rows(), kEps);
}

void check(const Precision& precision, const Case& c) {
  const Inputs in(c, precision.dtype);
  compare(precision, in, backward(in, forward(in)));
}

// At 0.01 every row has a shift of its own.
constexpr double kTemperatures[] = {0.5, 0.0151, 0.01};  // of both shifts, and next to the bound

void test_rectangles(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    for (const auto& [rows, columns] : std::vector<std::array<int64_t, 2>>{
             {1, 1}, {1, 9}, {9, 1}, {5, 130}, {130, 5}, {70, 141}, {300, 90}}) {
      check(precision, {rows, columns, 9, {0}, 0, temperature});
      check(precision, {rows, columns, 9, {}, 0, temperature});
    }
    for (const std::vector<int64_t>& shifts : std::vector<std::vector<int64_t>>{
             {3}, {-60}, {100}, {0, 1}, {-2, 130}, {1, int64_t{1} << 40}}) {
      check(precision, {140, 133, 20, shifts, 0, temperature});
    }
    check(precision, {90, 70, 128, {0}, 0, temperature});
  }
  check(precision, {70, 50, 12, {0}, 0, 2.0, false});
}

// Of all forms: one pair per row dominates, or all weigh the same.
void test_extreme_temperatures(const Precision& precision) {
  for (const double temperature : {0.005, 1000.0}) {
    check(precision, {70, 50, 20, {0}, 0, temperature});
    check(precision, {70, 50, 20, {}, 0, temperature});
    check(precision, {70, 0, 20, {}, 9, temperature});
    check(precision, {70, 0, 20, {35, -35}, 0, temperature});
  }
}

void test_labels(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    for (const int64_t rows : {1, 2, 9, 205}) {
      for (const int64_t classes : {1, 4, 100})
        check(precision, {rows, 0, 9, {}, classes, temperature});
    }
    for (const int64_t classes : {1, 30}) check(precision, {140, 90, 20, {}, classes, temperature});
    check(precision, {90, 300, 9, {}, 200, temperature});
    check(precision, {150, 0, 256, {}, 5, temperature});
  }
  check(precision, {70, 50, 12, {}, 6, 2.0, false});
}

// Which pairs are terms of the lse, and gradients of the lse itself. Of rectangles, queues, NT-Xent
// and labels; no row is without terms.
void test_terms(const Precision& precision) {
  const auto run = [&](Case c, double temperature, const char* denominator, int64_t ids) {
    c.temperature = temperature;
    c.denominator = denominator;
    c.ids = ids;
    c.of_lse = true;
    check(precision, c);
  };
  for (const double temperature : kTemperatures) {
    for (const char* denominator : {"all", "negatives", "positives"}) {
      run({70, 141, 9, {0}}, temperature, denominator, 0);
      run({140, 0, 9, {70, -70}}, temperature, denominator, 40);
      run({90, 0, 20, {}, 7}, temperature, denominator, 0);
      run({40, 70, 9, {}, 3}, temperature, denominator, 20);
    }
    run({70, 90, 9, {}, 0}, temperature, "all", 0);
  }
}

// A row that has no terms has an lse of -inf and no gradient of it.
void test_rows_without_terms(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    for (const char* denominator : {"negatives", "all"}) {
      Case c{70, 0, 9, {}, denominator[0] == 'n', temperature};
      c.denominator = denominator;
      c.ids = 1;
      c.of_lse = true;
      const Inputs in(c, precision.dtype);
      const Saved saved = forward(in);
      EXPECT(std::get<1>(saved).eq(-INFINITY).all().item<bool>(), c);
      const Result ours = backward(in, saved);
      EXPECT(c.classes == 1 || ours.grad_z.eq(0).all().item<bool>(), c);
      EXPECT(ours.grad_z.isfinite().all().item<bool>(), c);
    }
  }
}

// Two positives per row, but at the ends.
void test_neighbors(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    for (const int64_t shift : {1, 5, 140})
      check(precision, {205, 0, 9, {shift, -shift}, 0, temperature});
  }
}

// Every pair of rows in one class, or with one positive that is the row itself.
void test_degenerate_rows(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    Inputs in({70, 70, 5, {0}, 0, temperature}, precision.dtype);
    in.y = in.x.clone();
    compare(precision, in, backward(in, forward(in)));
    in.x = torch::full_like(in.x, 0.25);
    in.y = in.x.clone();
    compare(precision, in, backward(in, forward(in)));
  }
}

// The losses of a part of the rows; their gradient takes the terms of all, and parts add up.
void test_owned_rows(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    for (Case c : {Case{210, 0, 9, {105, -105}}, {150, 0, 20, {7, -7}}, {140, 0, 9, {}, 12}}) {
      c.temperature = temperature;
      const Inputs in(c, precision.dtype);
      std::vector<at::Tensor> losses, lses, grads;
      at::Tensor z, inv_norm;
      const std::vector<int64_t> ends = {0, 1, 64, c.rows - 3, c.rows};
      for (size_t part = 0; part + 1 < ends.size(); ++part) {
        const Saved saved = forward(in, {ends[part], ends[part + 1]});
        losses.push_back(std::get<0>(saved));
        lses.push_back(std::get<1>(saved));
        z = std::get<2>(saved);
        inv_norm = std::get<3>(saved);
      }
      const Saved all{torch::cat(losses), torch::cat(lses), z, inv_norm};
      at::Tensor grad_temperature = torch::zeros({}, torch::kDouble);
      for (size_t part = 0; part + 1 < ends.size(); ++part) {
        const Result ours = backward(in, all, {ends[part], ends[part + 1]});
        grads.push_back(ours.grad_z);
        grad_temperature += ours.grad_temperature;
      }
      compare(precision, in, {torch::cat(losses), torch::cat(grads), grad_temperature});
    }
  }
}

// Gradients that are not asked for are not computed, and do not change the others.
void expect_wanted_rows(const Precision& precision, const Case& c) {
  const Inputs in(c, precision.dtype);
  const Saved saved = forward(in);
  const Result both = backward(in, saved);
  const Result x = backward(in, saved, {}, {true, false, false});
  const Result y = backward(in, saved, {}, {false, true, false});
  const Result temperature = backward(in, saved, {}, {false, false, true});
  EXPECT(torch::equal(x.grad_z, both.grad_z.narrow(0, 0, c.rows)), c);
  EXPECT(torch::equal(y.grad_z, both.grad_z.narrow(0, c.rows, c.columns)), c);
  EXPECT(torch::equal(temperature.grad_temperature, both.grad_temperature), c);
  EXPECT(x.grad_temperature.numel() == 0 && y.grad_temperature.numel() == 0, c);
}
void test_wanted_rows(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    expect_wanted_rows(precision, {70, 41, 14, {0}, 0, temperature});
    expect_wanted_rows(precision, {70, 41, 14, {}, 9, temperature});
    expect_wanted_rows(precision, {140, 41, 100, {3}, 0, temperature});
  }
}

// NT-Xent is a case of the primitive.
void test_nt_xent_is_a_case(const Precision& precision) {
  for (const double temperature : kTemperatures) {
    const Inputs in({140, 0, 9, {70, -70}, 0, temperature}, precision.dtype);
    const auto views = in.x.chunk(2);
    const auto named =
        simclr::nt_xent_forward(views[0], views[1], held_temperature(in.c.temperature), true, kEps);
    EXPECT(torch::equal(std::get<0>(forward(in)), std::get<0>(named)), in.c);
  }
}

// The host does not read it: where rows may share a shift, the kernels of both kinds are launched.
void test_temperature_in_device_memory(const Precision& precision) {
  const simclr::fused::NumbersInDeviceMemory guard;
  test_terms(precision);
  test_owned_rows(precision);
  test_wanted_rows(precision);
}

// The order of blocks and threads is the machine's own business.
void test_same_bits_in_any_order(const Precision& precision) {
  for (const Case& c : {Case{210, 150, 14, {}, 9}, {210, 0, 14, {}, 9}, {210, 150, 14, {0}}}) {
    const Inputs in(c, precision.dtype);
    const Result first = backward(in, forward(in));
    simt::set_seed(12345);
    const Result second = backward(in, forward(in));
    EXPECT(torch::equal(first.loss, second.loss), c);
    EXPECT(torch::equal(first.grad_z, second.grad_z), c);
    EXPECT(torch::equal(first.grad_temperature, second.grad_temperature), c);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using Test = void (*)(const Precision&);
  return run_tests<Test>(
      argc, argv,
      {test_wanted_rows, test_nt_xent_is_a_case, test_neighbors, test_degenerate_rows,
       test_owned_rows, test_terms, test_temperature_in_device_memory, test_rows_without_terms,
       test_labels, test_rectangles, test_extreme_temperatures, test_same_bits_in_any_order});
}
