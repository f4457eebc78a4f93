// NT-Xent by the fused CUDA kernels, run on the simulated GPU, against the dense computation in
// double.
//
//   test_fused PRECISION [SEED]      bf16, fp16, tf32 or tf32x3

#include <torch/csrc/autograd/autograd.h>
#include <torch/types.h>

#include <cmath>
#include <tuple>

#include "../cpp/check.h"
#include "cuda/host.h"
#include "far_rows.h"
#include "precision.h"
#include "simclr_ext.h"
#include "simt.h"

namespace {

struct Case {
  int64_t n;
  int64_t dim;
  double temperature = 0.5;
  bool normalize = true;
  double eps = 1e-12;
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << "N = " << c.n << ", D = " << c.dim << ", T = " << c.temperature
             << (c.normalize ? "" : ", dot products") << ", eps = " << c.eps;
}

// The whole matrix, in `dtype`.
Result dense(const at::Tensor& z0, const at::Tensor& z1, const Case& c, at::ScalarType dtype) {
  const at::Tensor x = torch::cat({z0, z1}).to(dtype).requires_grad_();
  const at::Tensor temperature = held_temperature(c.temperature).to(dtype).requires_grad_();
  const at::Tensor z = c.normalize ? x / x.norm(2, 1, true).clamp_min(c.eps) : x;
  const at::Tensor logits =
      (z.mm(z.t()) / temperature).masked_fill(torch::eye(z.size(0), torch::kBool), -INFINITY);
  const at::Tensor rows = torch::arange(z.size(0));
  const at::Tensor positive = logits.gather(1, rows.roll(c.n).unsqueeze(1)).squeeze(1);
  const at::Tensor loss = logits.logsumexp(1) - positive;
  const auto grads =
      torch::autograd::grad({loss.dot(row_weights(z.size(0)).to(dtype))}, {x, temperature});
  return {loss.detach(), grads[0], grads[1]};
}

Result fused(const at::Tensor& z0, const at::Tensor& z1, const Case& c,
             std::array<bool, 3> needs_grad = {true, true, true}) {
  const at::Tensor temperature = held_temperature(c.temperature);
  const auto [loss, lse, z, inv_norm] =
      simclr::nt_xent_forward(z0, z1, temperature, c.normalize, c.eps);
  const at::Tensor weights = row_weights(loss.size(0)).to(torch::kFloat);
  const auto [grad_z, grad_temperature] = simclr::nt_xent_backward(
      weights, loss, lse, z, inv_norm, c.dim, temperature, c.eps, needs_grad);
  return {loss, grad_z, grad_temperature};
}

class Checker {
 public:
  Checker(Precision precision) : precision_(std::move(precision)) {}

  void check(const Case& c, at::Tensor z0, at::Tensor z1) const {
    z0 = z0.to(precision_.dtype);
    z1 = z1.to(precision_.dtype);
    const Result ours = fused(z0, z1, c);
    const Result exact = dense(z0, z1, c, torch::kDouble);
    const Result eager = dense(z0, z1, c, torch::kFloat);
    expect_within_budget(precision_, c, ours, exact, eager, torch::cat({z0, z1}), c.eps);
  }

  // Views as similar as those of a half-trained encoder, rows of many lengths.
  void check(const Case& c) const {
    const at::Tensor z0 = torch::randn({c.n, c.dim});
    const at::Tensor z1 = z0 + 0.8 * torch::randn({c.n, c.dim});
    check(c, z0 * torch::rand({c.n, 1}).add(0.2), z1);
  }

  at::ScalarType dtype() const { return precision_.dtype; }

 private:
  Precision precision_;
};

// Every class of D, padded and full, over ragged numbers of rows: one tile, several, and strips of
// several tiles of rows.
void test_shapes(const Checker& checker) {
  for (const int64_t dim : {1, 7, 31, 32, 33, 64, 65, 100, 128, 129, 200, 256}) {
    for (const int64_t n : {1, 2, 33, 70}) checker.check({n, dim});
  }
  for (const int64_t dim : {257, 600, 4096}) checker.check({40, dim});
  for (const int64_t dim : {20, 128, 256}) checker.check({205, dim});
  checker.check({450, 9});
}

void test_temperatures(const Checker& checker) {
  for (const double temperature : {0.005, 0.01, 0.0149, 0.0151, 0.1, 1.0, 1000.0}) {
    for (const int64_t n : {5, 101}) checker.check({n, 24, temperature});
  }
}

// A temperature in device memory, which the host does not read, gives the same bits; wide rows then
// have shifts of their own. There nobody checks it: one that is not allowed makes all results NaN.
void test_temperature_in_device_memory(const Checker& checker) {
  for (const double temperature : {0.01, 0.0149, 0.0151, 0.5}) {
    for (const bool normalize : {true, false}) {
      const Case c{101, 24, temperature, normalize};
      const at::Tensor z0 = torch::randn({c.n, c.dim}).to(checker.dtype());
      const at::Tensor z1 = torch::randn({c.n, c.dim}).to(checker.dtype());
      const Result host = fused(z0, z1, c);
      const simclr::fused::NumbersInDeviceMemory guard;
      checker.check(c, z0, z1);
      if (simclr::fused::is_wide(c.dim)) continue;
      const Result device = fused(z0, z1, c);
      EXPECT(torch::equal(device.loss, host.loss), c);
      EXPECT(torch::equal(device.grad_z, host.grad_z), c);
      EXPECT(torch::equal(device.grad_temperature, host.grad_temperature), c);
    }
  }
  const simclr::fused::NumbersInDeviceMemory guard;
  for (const double bad :
       {0.0, -0.5, 1e-39, 1e38, static_cast<double>(INFINITY), static_cast<double>(NAN)}) {
    const at::Tensor z0 = torch::randn({40, 9}).to(checker.dtype());
    const Result ours = fused(z0, -z0, {40, 9, bad});
    EXPECT(ours.loss.isnan().all().item<bool>(), bad, ours.loss);
    EXPECT(ours.grad_z.isnan().all().item<bool>(), bad);
    EXPECT(ours.grad_temperature.isnan().item<bool>(), bad);
  }
}

// A device that is so small that there is one strip, and one that has a strip for each tile.
void test_grids(const Checker& checker) {
  using simclr::fused::kGrid;
  const simclr::fused::Grid usual = kGrid;
  for (const auto& grid : {simclr::fused::Grid{1, 1, 1}, simclr::fused::kLargeDevice}) {
    kGrid = grid;
    checker.check({205, 20});
    checker.check({101, 40, 0.01});
  }
  kGrid = usual;
}

void test_dot_products(const Checker& checker) {
  checker.check({3, 12, 0.5, false});
  checker.check({90, 12, 2.0, false});
  checker.check({210, 40, 1.0, false});
}

void test_degenerate_rows(const Checker& checker) {
  for (const double temperature : {0.01, 0.0151, 0.1}) {
    for (const int64_t n : {1, 2, 80}) {
      const Case c{n, 5, temperature};
      const at::Tensor ones = torch::full({n, 5}, 0.25);
      checker.check(c, ones, ones);
      checker.check(c, ones, -ones);
      at::Tensor one_opposite = ones.clone();
      one_opposite[n - 1] *= -1;
      checker.check(c, ones, one_opposite);
      at::Tensor z0 = torch::randn({n, 5});
      const at::Tensor z1 = torch::randn({n, 5});
      z0[0] = 0;
      checker.check({n, 5, temperature, true, 1e-3}, z0, z1);
      z0[0] = 1e-4;
      checker.check({n, 5, temperature, true, 1e-3}, z0, z1);
    }
  }
}

// fp16 reaches fewer.
void test_rows_of_extreme_length(const Checker& checker) {
  const at::Tensor z0 = torch::randn({20, 6}).to(checker.dtype());
  const at::Tensor z1 = torch::randn({20, 6}).to(checker.dtype());
  const bool half = checker.dtype() == torch::kHalf;
  const double tiny = std::exp2(half ? -3 : -100);
  const double huge = std::exp2(half ? 10 : 100);
  const Case c{20, 6, 0.5, true, 1e-37};
  const at::Tensor loss = fused(z0, z1, c).loss;
  for (const double length : {tiny, huge}) {
    EXPECT(torch::equal(fused(z0 * length, z1, c).loss, loss), checker.dtype(), length);
  }
}

void test_strides(const Checker& checker) {
  const at::Tensor z0 = torch::randn({14, 50}).to(checker.dtype());
  const at::Tensor z1 = torch::randn({50, 14}).to(checker.dtype());
  const Case c{50, 14};
  const Result same = fused(z0.t().contiguous(), z1, c);
  const Result strided = fused(z0.t(), z1, c);
  EXPECT(torch::equal(strided.loss, same.loss), checker.dtype());
  EXPECT(torch::equal(strided.grad_z, same.grad_z), checker.dtype());
}

// Of the views' rows.
void test_offsets_beyond_32_bits(const Checker& checker) {
  const Case c{FarRows::kRows / 2, FarRows::kDim};
  const at::Tensor views = torch::randn({FarRows::kRows, FarRows::kDim}).to(checker.dtype());
  const Result same = fused(views.narrow(0, 0, c.n), views.narrow(0, c.n, c.n), c);
  const FarRows far(checker.dtype());
  far.rows.copy_(views);
  const Result distant = fused(far.rows.narrow(0, 0, c.n), far.rows.narrow(0, c.n, c.n), c);
  EXPECT(torch::equal(distant.loss, same.loss), checker.dtype());
  EXPECT(torch::equal(distant.grad_z, same.grad_z), checker.dtype());
}

// The same for stored rows and partial gradients. The operators have them close together, so this
// runs the kernels alone, with any numbers.
void test_stored_offsets_beyond_32_bits(const Checker& checker) {
  using namespace simclr::fused;
  constexpr int kRows = FarRows::kRows;
  constexpr int kNear = 16;
  const Kernels& kernels = kernels_for(checker.dtype());
  const simclr::Problem problem{{0, kRows}, {0, kRows}};
  const simclr::Pairing pairing{true, 1, {kRows / 2}, nullptr};
  const Strips strips{128, 1};
  const at::Tensor numbers = torch::rand({5, kRows});
  const at::Tensor positives = torch::ones({kRows}, torch::kInt);
  const auto number = [&](int row) { return numbers[row].const_data_ptr<float>(); };

  const auto run = [&](const at::Tensor& z, int stride, float* partial) {
    const Rows rows{z.const_data_ptr(), number(0), FarRows::kDim, stride};
    const at::Tensor sums = torch::zeros({3, kRows});  // of two slots, and of positives
    auto* sum = sums.mutable_data_ptr<float>();
    kernels.forward({.rows = rows,
                     .problem = problem,
                     .pairing = pairing,
                     .exponents = {.known_scale = 1, .shared_shift = true},
                     .row_strips = strips,
                     .column_strips = strips,
                     .row_sums = {.sum = sum},
                     .positive = sum + 2 * kRows},
                    nullptr);
    const at::Tensor grad = torch::zeros({kRows, FarRows::kDim}, checker.dtype());
    const at::Tensor radial = torch::zeros({kRows});
    kernels.backward({.rows = rows,
                      .problem = problem,
                      .pairing = pairing,
                      .wanted = problem.rows,
                      .terms = {number(1), number(2), number(2), number(3), number(4),
                                positives.const_data_ptr<int32_t>()},
                      .of_rows = {problem.rows, strips, partial},
                      .inv_norm = nullptr,
                      .inv_eps = 1,
                      .exponents = {.known_scale = 1, .shared_shift = true},
                      .grad = grad.mutable_data_ptr(),
                      .radial = radial.mutable_data_ptr<float>()},
                     nullptr);
    return torch::cat({sums.flatten(), grad.flatten().to(torch::kFloat), radial});
  };

  const at::Tensor z = torch::zeros({kRows, kNear}, checker.dtype());
  z.narrow(1, 0, FarRows::kDim).copy_(torch::randn({kRows, FarRows::kDim}));
  const at::Tensor near = torch::empty({kRows, kNear});
  const at::Tensor same = run(z, kNear, near.mutable_data_ptr<float>());
  const FarRows far(checker.dtype());
  const FarRows partial(torch::kFloat);
  far.rows.copy_(z.narrow(1, 0, FarRows::kDim));
  const at::Tensor distant =
      run(far.rows, FarRows::kStride, partial.rows.mutable_data_ptr<float>());
  EXPECT(same.isfinite().all().item<bool>(), checker.dtype(), same);
  EXPECT(torch::equal(distant, same), checker.dtype(), distant - same);
}

// What the forward pass returns may be copied before the backward pass gets it: by a hook that
// saves it elsewhere, or by a compiler. A copy keeps the values and sizes, and neither strides nor
// address.
void test_copies_of_what_is_saved(const Checker& checker) {
  const Case c{40, 9};  // 9 elements end inside of a unit of 16 bytes
  const at::Tensor z0 = torch::randn({c.n, c.dim}).to(checker.dtype());
  const at::Tensor z1 = torch::randn({c.n, c.dim}).to(checker.dtype());
  const Result same = fused(z0, z1, c);
  const at::Tensor temperature = held_temperature(c.temperature);
  const auto [loss, lse, z, inv_norm] =
      simclr::nt_xent_forward(z0, z1, temperature, c.normalize, c.eps);
  using Copy = at::Tensor (*)(const at::Tensor&);
  const Copy same_strides = [](const at::Tensor& x) {
    return torch::empty_strided(x.sizes(), x.strides(), x.options()).copy_(x);
  };
  const Copy every_other_element = [](const at::Tensor& x) {
    return torch::stack({x, x}, -1).select(-1, 0);
  };
  const Copy at_odd_address = [](const at::Tensor& x) {
    return torch::cat({x.flatten().slice(0, 0, 1), x.flatten()}).slice(0, 1).view(x.sizes());
  };
  for (const Copy copy : {same_strides, every_other_element, at_odd_address}) {
    const auto [grad_z, grad_temperature] = simclr::nt_xent_backward(
        row_weights(2 * c.n).to(torch::kFloat), copy(loss), copy(lse), copy(z), copy(inv_norm),
        c.dim, temperature, c.eps, {true, true, true});
    EXPECT(torch::equal(grad_z, same.grad_z), checker.dtype(), grad_z);
    EXPECT(torch::equal(grad_temperature, same.grad_temperature), checker.dtype());
  }
}

// A single pair has no negatives: nothing can be learned from it.
void test_one_pair(const Checker& checker) {
  for (const double temperature : {0.01, 0.3}) {
    for (const bool normalize : {true, false}) {
      const Case c{1, 6, temperature, normalize};
      const at::Tensor z0 = torch::randn({1, 6}).to(checker.dtype());
      const Result ours = fused(z0, torch::randn({1, 6}).to(checker.dtype()), c);
      EXPECT(torch::equal(ours.loss, torch::zeros({2})), c, ours.loss);
      EXPECT(ours.grad_z.abs().max().item<double>() == 0, c, ours.grad_z);
      EXPECT(ours.grad_temperature.item<double>() == 0, c, ours.grad_temperature);
    }
  }
}

// Gradients that are not asked for are not computed, and do not change the others.
void test_wanted_rows(const Checker& checker) {
  const at::Tensor z0 = torch::randn({70, 14}).to(checker.dtype());
  const at::Tensor z1 = torch::randn({70, 14}).to(checker.dtype());
  const Case c{70, 14};
  const Result both = fused(z0, z1, c);
  const Result first = fused(z0, z1, c, {true, false, false});
  const Result second = fused(z0, z1, c, {false, true, false});
  EXPECT(torch::equal(first.grad_z, both.grad_z.narrow(0, 0, 70)), first.grad_z.sizes());
  EXPECT(torch::equal(second.grad_z, both.grad_z.narrow(0, 70, 70)), second.grad_z.sizes());
  EXPECT(first.grad_temperature.numel() == 0, first.grad_temperature.sizes());
  const Result none = fused(z0, z1, c, {false, false, false});
  EXPECT(none.grad_z.sizes() == at::IntArrayRef({0, 14}), none.grad_z.sizes());
  EXPECT(none.grad_temperature.numel() == 0, none.grad_temperature.sizes());
}

void test_non_finite_rows(const Checker& checker) {
  for (const double bad : {NAN, INFINITY}) {
    for (const double temperature : {0.01, 0.5}) {
      const Case c{40, 4, temperature};
      at::Tensor z0 = torch::randn({40, 4}).to(checker.dtype());
      const at::Tensor z1 = torch::randn({40, 4}).to(checker.dtype());
      z0[7][1] = bad;
      const Result ours = fused(z0, z1, c);
      EXPECT(!ours.loss.isfinite().any().item<bool>(), c, bad);
      EXPECT(!ours.grad_z.isfinite().any().item<bool>(), c, bad);
    }
  }
}

// A NaN as a GPU's operations make it has all bits set. Dot products have no norm that it spoils.
void test_nan_with_all_bits_set(const Checker& checker) {
  for (const double temperature : {0.01, 0.5}) {
    const Case c{40, 4, temperature, false};
    at::Tensor z0 = torch::randn({40, 4}).to(checker.dtype());
    const at::Tensor z1 = torch::randn({40, 4}).to(checker.dtype());
    const bool half = z0.element_size() == 2;
    z0.view(half ? at::kShort : at::kInt)[7][1] = half ? 0x7fff : 0x7fffffff;
    const Result ours = fused(z0, z1, c);
    EXPECT(ours.loss.isnan().all().item<bool>(), c);
    EXPECT(ours.grad_z.isnan().all().item<bool>(), c);
  }
}

// The order of blocks and threads is the machine's own business.
void test_same_bits_in_any_order(const Checker& checker) {
  const at::Tensor z0 = torch::randn({205, 14}).to(checker.dtype());
  const at::Tensor z1 = torch::randn({205, 14}).to(checker.dtype());
  const Result first = fused(z0, z1, {205, 14});
  simt::set_seed(12345);
  const Result second = fused(z0, z1, {205, 14});
  EXPECT(torch::equal(first.loss, second.loss), checker.dtype());
  EXPECT(torch::equal(first.grad_z, second.grad_z), checker.dtype());
  EXPECT(torch::equal(first.grad_temperature, second.grad_temperature), checker.dtype());
}

}  // namespace

int main(int argc, char** argv) {
  using Test = void (*)(const Checker&);
  return run_tests<Test>(
      argc, argv,
      {test_strides, test_copies_of_what_is_saved, test_one_pair, test_wanted_rows,
       test_offsets_beyond_32_bits, test_stored_offsets_beyond_32_bits, test_non_finite_rows,
       test_nan_with_all_bits_set, test_rows_of_extreme_length, test_degenerate_rows,
       test_temperatures, test_temperature_in_device_memory, test_grids, test_dot_products,
       test_shapes, test_same_bits_in_any_order});
}
