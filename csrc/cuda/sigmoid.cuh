// The sigmoid loss of a pair and its derivative, in base 2: x = log2(e) u = scale s + bias.

#pragma once

#include "cuda/rows.cuh"

namespace simclr::fused {

struct SigmoidExponents {
  float scale;
  float bias;
};

SIMCLR_DEVICE SigmoidExponents sigmoid_exponents(const SigmoidScalars& scalars) {
  return {static_cast<float>(checked_value_of(scalars.scale) / kLn2),
          static_cast<float>(value_of(scalars.bias) / kLn2)};
}

// 1 / (1 + 2^-x)
SIMCLR_DEVICE float sigmoid(float x) { return reciprocal_fast(1.0f + exp2_fast(-x)); }

struct PairSigmoid {
  float loss;     // log2(1 + 2^x)
  float sigmoid;  // 1 / (1 + 2^-x)
};
// Of x = -infinity both are 0. log2(1 + power) is computed from the power and not from the sum, of
// which small powers would be lost: they are those of most pairs.
SIMCLR_DEVICE PairSigmoid pair_sigmoid(float x) {
  const float power = exp2_fast(-fabsf(x));  // at most 1
  // log2(1 + power) / power, to 3e-8: weighted least squares of the relative error, iterated to the
  // smallest maximum.
  float ratio = 7.54917785525322e-3f;
  ratio = ratio * power - 4.2567044496536255e-2f;
  ratio = ratio * power + 1.1285616457462311e-1f;
  ratio = ratio * power - 1.9711895287036896e-1f;
  ratio = ratio * power + 2.7564141154289246e-1f;
  ratio = ratio * power - 3.5840848088264465e-1f;
  ratio = ratio * power + 4.8069295287132263e-1f;
  ratio = ratio * power - 7.213401794433594e-1f;
  ratio = ratio * power + 1.4426950216293335f;
  const float inverse = reciprocal_fast(1.0f + power);
  return {ratio * power + fmaxf(x, 0.0f), x < 0.0f ? power * inverse : inverse};
}

}  // namespace simclr::fused
