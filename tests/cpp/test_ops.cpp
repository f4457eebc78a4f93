// The C++ interface: a loss and a gradient known in closed form, and the checks of the operators.

#include <torch/types.h>

#include <cmath>

#include "check.h"
#include "simclr_ext.h"

using simclr::nt_xent_backward;
using simclr::nt_xent_forward;
using simclr::nt_xent_value_and_grad;

// Equal rows: every similarity is 1, so each loss is log(2N - 1) and all gradients cancel.
void test_equal_rows(int64_t n) {
  const at::Tensor z = torch::ones({n, 3});
  const at::Tensor temperature = torch::scalar_tensor(0.1, torch::kDouble);
  const auto [loss, lse, unit_rows, inv_norm] = nt_xent_forward(z, z, temperature, true, 1e-12);
  const double expected = std::log(2.0 * n - 1);
  EXPECT((loss - expected).abs().max().item<double>() < 1e-6, n, loss, expected);
  EXPECT((lse - expected - 10).abs().max().item<double>() < 1e-6, n, lse);
  const auto [grad_z, grad_temperature] =
      nt_xent_backward(torch::ones({2 * n}), loss, lse, unit_rows, inv_norm, 3, temperature, 1e-12,
                       {true, true, true});
  EXPECT(grad_z.sizes() == at::IntArrayRef({2 * n, 3}), grad_z.sizes());
  EXPECT(grad_z.abs().max().item<double>() < 1e-5 * n, n, grad_z.abs().max());
  // Of terms of the size 1 / T^2, with one sign and one rounding, that should cancel.
  EXPECT(std::abs(grad_temperature.item<double>()) < 2e-3 * n, n, grad_temperature);
}

// The gradients of a small batch at once are those of the two passes, bit for bit.
void test_value_and_grad(int64_t n) {
  const at::Tensor z0 = torch::randn({n, 5});
  const at::Tensor z1 = torch::randn({n, 5});
  const at::Tensor temperature = torch::scalar_tensor(0.1, torch::kDouble);
  const auto [loss, lse, z, inv_norm] = nt_xent_forward(z0, z1, temperature, true, 1e-12);
  const auto [grad_z, grad_temperature] =
      nt_xent_backward(torch::full({2 * n}, 0.25), loss, lse, z, inv_norm, 5, temperature, 1e-12,
                       {true, true, true});
  const auto [value, grad_rows, grad_scale] =
      nt_xent_value_and_grad(z0, z1, temperature, true, 1e-12, 0.25, {true, true, true});
  EXPECT(at::equal(value, loss), n, value, loss);
  EXPECT(at::equal(grad_rows, grad_z), n, grad_rows, grad_z);
  EXPECT(at::equal(grad_scale, grad_temperature), n, grad_scale, grad_temperature);
}

template <typename Error>
void expect_error(const at::Tensor& z0, const at::Tensor& z1, double temperature,
                  const char* word) {
  try {
    nt_xent_forward(z0, z1, torch::scalar_tensor(temperature, torch::kDouble), true, 1e-12);
  } catch (const Error& error) {
    EXPECT(std::string(error.what()).find(word) != std::string::npos, word, error.what());
    return;
  }
  EXPECT(false, word);
}

int main() {
  for (int64_t n : {1, 2, 50, 64, 65, 700}) test_equal_rows(n);
  for (int64_t n : {1, 64, 65, 127, 256}) test_value_and_grad(n);
  const at::Tensor z = torch::ones({2, 3});
  expect_error<c10::ValueError>(z, torch::ones({2, 4}), 0.5, "[2, 4]");
  expect_error<c10::ValueError>(torch::ones({0, 3}), torch::ones({0, 3}), 0.5, "[0, 3]");
  expect_error<c10::ValueError>(torch::ones({3}), torch::ones({3}), 0.5, "[3]");
  expect_error<c10::TypeError>(z.to(at::kInt), z.to(at::kInt), 0.5, "int");
  expect_error<c10::TypeError>(z, z.to(at::kDouble), 0.5, "double");
  expect_error<c10::ValueError>(z, z, 0.0, "temperature");
  expect_error<c10::ValueError>(z, z, NAN, "temperature");
  return failures;
}
