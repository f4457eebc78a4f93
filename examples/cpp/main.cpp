// The loss in a program on libtorch: its value, its gradients by autograd, and the error of views
// that do not match.

#include <simclr_ext.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/types.h>

#include <cstdio>

using torch::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// The mean loss of the 2N rows, as a function that autograd can differentiate once.
struct NTXentLoss : torch::autograd::Function<NTXentLoss> {
  static constexpr double kEps = 1e-12;  // shorter rows are divided by it

  // z0, z1 [N, D]; temperature 0-d, double, on the CPU
  static Tensor forward(AutogradContext* context, const Tensor& z0, const Tensor& z1,
                        const Tensor& temperature) {
    const auto [loss, lse, z, inv_norm] =
        simclr::nt_xent_forward(z0, z1, temperature, /*normalize=*/true, kEps);
    context->save_for_backward({loss, lse, z, inv_norm, temperature});
    context->saved_data["dim"] = z0.size(1);
    return loss.mean();
  }

  static variable_list backward(AutogradContext* context, const variable_list& grad_outputs) {
    const variable_list saved = context->get_saved_variables();
    const Tensor loss = saved[0], lse = saved[1], z = saved[2], inv_norm = saved[3];
    const int64_t rows = loss.size(0);
    const auto [grad_z, grad_temperature] = simclr::nt_xent_backward(
        (grad_outputs[0] / rows).expand(rows), loss, lse, z, inv_norm,
        context->saved_data["dim"].toInt(), saved[4], kEps, /*needs_grad=*/{true, true, true});
    return {grad_z.narrow(0, 0, rows / 2), grad_z.narrow(0, rows / 2, rows / 2), grad_temperature};
  }
};

// N = 100 embeddings of D = 32 that any language can make.
Tensor embeddings(double frequency) {
  return torch::arange(3200, torch::kDouble).mul(frequency).sin().view({100, 32}).to(torch::kFloat);
}

int main() {
  const Tensor z0 = embeddings(0.7).requires_grad_(), z1 = embeddings(1.1).requires_grad_();
  const Tensor temperature = torch::scalar_tensor(0.1, torch::kDouble).requires_grad_();

  const Tensor loss = NTXentLoss::apply(z0, z1, temperature);
  loss.backward();
  std::printf("loss %.9g\n", loss.item<double>());
  std::printf("gradient of z0 %.9g\n", z0.grad().norm().item<double>());
  std::printf("gradient of z1 %.9g\n", z1.grad().norm().item<double>());
  std::printf("gradient of the temperature %.9g\n", temperature.grad().item<double>());

  try {
    NTXentLoss::apply(z0, z1.narrow(0, 0, 99), temperature);
  } catch (const c10::ValueError& error) {
    std::printf("refused: %s\n", error.what_without_backtrace());
    return 0;
  }
  return 1;
}
