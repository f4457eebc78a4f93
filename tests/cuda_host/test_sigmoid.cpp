// The sigmoid loss by the fused CUDA kernels, run on the simulated GPU, against the dense
// computation in double.
//
//   test_sigmoid PRECISION [SEED]      bf16, fp16, tf32 or tf32x3

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <array>
#include <cmath>
#include <string>
#include <vector>

#include "../cpp/check.h"
#include "cuda/stream.h"
#include "precision.h"
#include "simclr_ext.h"
#include "simt.h"

namespace {

struct Case {
  int64_t rows;
  int64_t columns;
  int64_t dim;
  std::vector<int64_t> shifts = {0};
  double scale = 10;
  double bias = -10;
  bool normalize = true;
  double eps = 1e-12;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "R = " << c.rows << ", C = " << c.columns << ", D = " << c.dim
             << ", shifts = " << at::IntArrayRef(c.shifts) << ", scale = " << c.scale
             << ", bias = " << c.bias << (c.normalize ? "" : ", dot products")
             << ", eps = " << c.eps;
}

// A case with its inputs.
struct Inputs {
  Case c;
  at::Tensor x;
  at::Tensor y;

  // Columns as similar to the rows as those of a half-trained encoder, rows of many lengths.
  Inputs(const Case& c_, at::ScalarType dtype) : c(c_) {
    const int64_t both = std::min(c.rows, c.columns);
    x = torch::randn({c.rows, c.dim}) * torch::rand({c.rows, 1}).add(0.2);
    y = torch::randn({c.columns, c.dim});
    y.narrow(0, 0, both) += 1.25 * x.narrow(0, 0, both);
    x = x.to(dtype);
    y = y.to(dtype);
  }

  // Which columns are positives of which rows, [R, C].
  at::Tensor positives() const {
    const at::Tensor distance = torch::arange(c.columns) - torch::arange(c.rows).unsqueeze(1);
    at::Tensor mask = torch::zeros_like(distance, torch::kBool);
    for (const int64_t shift : c.shifts) mask |= distance == shift;
    return mask;
  }
};

struct Losses {
  at::Tensor loss;       // [R]
  at::Tensor bias_grad;  // [R]
  at::Tensor grad_z;     // [R + C, D], of the losses with the weights `row_weights`
  at::Tensor grad_scale;
};

// |dL/du_ij| of the losses with these weights, [R, C].
struct Dense {
  Losses losses;
  at::Tensor steepness;
};

Dense dense(const Inputs& in, at::ScalarType dtype) {
  const at::Tensor all = torch::cat({in.x, in.y}).to(dtype).requires_grad_();
  const at::Tensor scale = torch::scalar_tensor(in.c.scale, dtype).requires_grad_();
  const at::Tensor z = in.c.normalize ? all / all.norm(2, 1, true).clamp_min(in.c.eps) : all;
  const at::Tensor s = z.narrow(0, 0, in.c.rows).mm(z.narrow(0, in.c.rows, in.c.columns).t());
  const at::Tensor u = scale * s + in.c.bias;
  const at::Tensor sign = torch::where(in.positives(), -1, 1).to(dtype);
  const at::Tensor loss = torch::softplus(sign * u, 1, /*threshold=*/40).sum(1);
  const at::Tensor slope = torch::sigmoid(sign * u).detach();
  const at::Tensor weights = row_weights(in.c.rows).to(dtype);
  const auto grads = torch::autograd::grad({loss.dot(weights)}, {all, scale});
  return {{loss.detach(), (sign * slope).sum(1), grads[0], grads[1]}, weights.unsqueeze(1) * slope};
}

at::Tensor number(double value) { return torch::scalar_tensor(value, torch::kDouble); }

simclr::ForwardResult forward(const Inputs& in) {
  return simclr::sigmoid_forward(in.x, in.y, number(in.c.scale), number(in.c.bias), in.c.normalize,
                                 in.c.eps, in.c.shifts);
}

Losses backward(const Inputs& in, const simclr::ForwardResult& saved,
                std::array<bool, 3> needs_grad = {true, true, true}) {
  const auto& [loss, bias_grad, z, inv_norm] = saved;
  const auto [grad_z, grad_scale] = simclr::sigmoid_backward(
      row_weights(in.c.rows).to(torch::kFloat), z, inv_norm, in.c.dim, number(in.c.scale),
      number(in.c.bias), in.c.eps, in.c.shifts, needs_grad);
  return {loss, bias_grad, grad_z, grad_scale};
}

void compare(const Precision& precision, const Inputs& in) {
  const Losses ours = backward(in, forward(in));
  const auto [exact, steepness] = dense(in, torch::kDouble);
  const Losses eager = dense(in, torch::kFloat).losses;
  const at::Tensor norms = torch::cat({in.x, in.y}).to(torch::kDouble).norm(2, 1);
  const double square = in.c.normalize ? 1 : std::pow(norms.max().item<double>(), 2);
  const double length =
      in.c.normalize ? 1 / norms.clamp_min(in.c.eps).min().item<double>() : std::sqrt(square);
  // An error of a similarity is one of scale times its size in u, and in the logarithm of a
  // probability.
  const double of_u = in.c.scale * square + std::abs(in.c.bias);
  const double of_products = precision.product_epsilon * of_u;
  const at::Tensor slopes = steepness.sum(1) / row_weights(in.c.rows);  // of the losses
  const auto expect = [&](const char* name, at::Tensor Losses::* part, double epsilon,
                          double size) {
    expect_within_budget(precision, in.c, {name, ours.*part, exact.*part, eager.*part}, epsilon,
                         size);
  };
  expect("loss", &Losses::loss, 1,
         exact.loss.norm().item<double>() * std::exp2(-23) +
             slopes.norm().item<double>() * of_products);
  expect("bias_grad", &Losses::bias_grad, std::exp2(-23) + of_products,
         slopes.norm().item<double>());
  const double epsilon = precision.weight_epsilon + of_products;
  const double weights =
      steepness.sum(1).norm().item<double>() + steepness.sum(0).norm().item<double>();
  expect("grad_z", &Losses::grad_z, epsilon,
         exact.grad_z.norm().item<double>() + length * in.c.scale * weights);
  expect("grad_scale", &Losses::grad_scale, epsilon, square * steepness.sum().item<double>());
}

void check(const Precision& precision, const Case& c) {
  compare(precision, Inputs(c, precision.dtype));
}

// Every class of D, padded and full, over ragged numbers of rows and columns: one tile, several,
// and strips of several tiles.
void test_shapes(const Precision& precision) {
  for (const int64_t dim : {1, 7, 32, 33, 64, 100, 128, 129, 256}) {
    check(precision, {33, 70, dim});
    check(precision, {130, 65, dim});
  }
  for (const auto& [rows, columns] : std::vector<std::array<int64_t, 2>>{
           {1, 1}, {1, 9}, {9, 1}, {5, 130}, {130, 5}, {70, 141}, {300, 90}, {90, 450}}) {
    check(precision, {rows, columns, 9});
    check(precision, {rows, columns, 9, {}});
  }
}

void test_positives(const Precision& precision) {
  for (const std::vector<int64_t>& shifts : std::vector<std::vector<int64_t>>{
           {3}, {-60}, {100}, {0, 1}, {-2, 130}, {1, int64_t{1} << 40}}) {
    check(precision, {140, 133, 20, shifts});
  }
}

void test_scales(const Precision& precision) {
  for (const double scale : {1e-3, 1.0, 30.0, 1000.0}) {
    for (const double bias : {-100.0, -20.0, 0.0, 3.0, 60.0}) {
      check(precision, {70, 90, 24, {0}, scale, bias});
    }
  }
  // Without positives nothing else is in the losses.
  for (const double bias : {-10.0, -20.0, -60.0}) check(precision, {70, 90, 24, {}, 10, bias});
  check(precision, {70, 90, 12, {0}, 0.7, -3, /*normalize=*/false});
  check(precision, {210, 40, 40, {}, 2, 1, /*normalize=*/false});
}

// A scale of 1e8 leaves nothing between 0 and infinity; the bounds of a sum hold still.
void test_saturation(const Precision& precision) {
  for (const double sign : {-1.0, 1.0}) {
    Inputs in({40, 40, 6, {0}, 1e8, 0}, precision.dtype);
    in.x = torch::full_like(in.x, 0.25);
    in.y = sign * in.x;
    const Losses ours = backward(in, forward(in));
    const at::Tensor positive = torch::full({40}, sign > 0 ? 0.0 : 1e8, torch::kDouble);
    const at::Tensor negatives = torch::full({40}, sign > 0 ? 39e8 : 0.0, torch::kDouble);
    EXPECT(error(ours.loss, positive + negatives) <= 1e-5 * 39e8 * 7, in.c, ours.loss);
    EXPECT(torch::equal(ours.bias_grad, torch::full({40}, sign > 0 ? 39.0 : -1.0, torch::kDouble)),
           in.c, ours.bias_grad);
    EXPECT(ours.grad_z.isfinite().all().item<bool>(), in.c, ours.grad_z);
  }
}

void test_degenerate_rows(const Precision& precision) {
  for (const int64_t n : {1, 80}) {
    Inputs in({n, n, 5, {0}, 10, -10, true, 1e-3}, precision.dtype);
    in.y = in.x.clone();
    compare(precision, in);
    in.x = torch::full_like(in.x, 0.25);
    in.y = in.x.clone();
    compare(precision, in);
    in.y[n - 1] *= -1;
    compare(precision, in);
    in.x = torch::randn({n, 5}).to(precision.dtype);
    in.x[0] = 0;
    compare(precision, in);
    in.x[0] = 1e-4;
    compare(precision, in);
  }
}

// A row that is not finite spoils its own loss, and the gradients of all that it meets.
void test_non_finite_rows(const Precision& precision) {
  for (const double bad : {NAN, INFINITY}) {
    Inputs in({40, 30, 4}, precision.dtype);
    in.x[7][1] = bad;
    const Losses ours = backward(in, forward(in));
    EXPECT(torch::equal(ours.loss.isfinite(), torch::arange(40) != 7), in.c, bad, ours.loss);
    EXPECT(torch::equal(ours.bias_grad.isfinite(), torch::arange(40) != 7), in.c, bad);
    EXPECT(!ours.grad_z.narrow(0, 40, 30).isfinite().any().item<bool>(), in.c, bad);
    EXPECT(!ours.grad_scale.isfinite().item<bool>(), in.c, bad);
  }
}

void test_strides(const Precision& precision) {
  const Inputs same({50, 40, 14}, precision.dtype);
  Inputs strided = same;
  strided.x = same.x.t().contiguous().t();
  const Losses first = backward(same, forward(same));
  const Losses second = backward(strided, forward(strided));
  EXPECT(torch::equal(first.loss, second.loss), precision.name);
  EXPECT(torch::equal(first.grad_z, second.grad_z), precision.name);
}

// Gradients that are not asked for are not computed, and do not change the others.
void test_wanted_rows(const Precision& precision) {
  const Inputs in({70, 41, 14}, precision.dtype);
  const auto saved = forward(in);
  const Losses both = backward(in, saved);
  const Losses x = backward(in, saved, {true, false, false});
  const Losses y = backward(in, saved, {false, true, false});
  const Losses scale = backward(in, saved, {false, false, true});
  const Losses none = backward(in, saved, {false, false, false});
  EXPECT(torch::equal(x.grad_z, both.grad_z.narrow(0, 0, 70)), x.grad_z.sizes());
  EXPECT(torch::equal(y.grad_z, both.grad_z.narrow(0, 70, 41)), y.grad_z.sizes());
  EXPECT(torch::equal(scale.grad_scale, both.grad_scale), precision.name);
  EXPECT(x.grad_scale.numel() == 0 && y.grad_scale.numel() == 0, precision.name);
  EXPECT(none.grad_z.sizes() == at::IntArrayRef({0, 14}), none.grad_z.sizes());
}

// Scale and bias in device memory give the same bits. There nobody checks them: a scale that is not
// allowed makes all results NaN.
void test_numbers_in_device_memory(const Precision& precision) {
  Inputs in({70, 41, 14}, precision.dtype);
  const Losses host = backward(in, forward(in));
  const simclr::fused::NumbersInDeviceMemory guard;
  const Losses device = backward(in, forward(in));
  EXPECT(torch::equal(device.loss, host.loss), precision.name);
  EXPECT(torch::equal(device.bias_grad, host.bias_grad), precision.name);
  EXPECT(torch::equal(device.grad_z, host.grad_z), precision.name);
  EXPECT(torch::equal(device.grad_scale, host.grad_scale), precision.name);
  for (const double scale : {0.0, -1.0, static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
    in.c.scale = scale;
    const Losses bad = backward(in, forward(in));
    EXPECT(bad.loss.isnan().all().item<bool>(), scale, bad.loss);
    EXPECT(bad.grad_z.isnan().all().item<bool>(), scale);
    EXPECT(bad.grad_scale.isnan().item<bool>(), scale);
  }
}

// The order of blocks and threads is the machine's own business.
void test_same_bits_in_any_order(const Precision& precision) {
  const Inputs in({205, 410, 14}, precision.dtype);
  const Losses first = backward(in, forward(in));
  simt::set_seed(12345);
  const Losses second = backward(in, forward(in));
  EXPECT(torch::equal(first.loss, second.loss), in.c);
  EXPECT(torch::equal(first.bias_grad, second.bias_grad), in.c);
  EXPECT(torch::equal(first.grad_z, second.grad_z), in.c);
  EXPECT(torch::equal(first.grad_scale, second.grad_scale), in.c);
}

}  // namespace

int main(int argc, char** argv) {
  using Test = void (*)(const Precision&);
  return run_tests<Test>(argc, argv,
                         {test_wanted_rows, test_strides, test_numbers_in_device_memory,
                          test_degenerate_rows, test_non_finite_rows, test_saturation, test_scales,
                          test_positives, test_shapes, test_same_bits_in_any_order});
}
