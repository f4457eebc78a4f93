// The fused kernels as host functions, one table per precision.

#pragma once

#include "cuda/params.h"
#include "cuda/wide_params.h"

struct CUstream_st;

namespace simclr::fused {

using Stream = CUstream_st*;  // cudaStream_t

// Of the pairs that a block multiplies at once.
struct TileShape {
  int64_t rows;
  int64_t columns;
};

struct Kernels {
  void (*prepare)(const PrepareParams&, Stream);
  TileShape (*forward_tile)(int64_t dim);
  TileShape (*backward_tile)(int64_t dim);
  void (*forward)(const ForwardParams&, Stream);
  void (*backward)(const BackwardParams&, Stream);
  void (*stats_forward)(const StatsForwardParams&, Stream);
  void (*sigmoid_forward)(const SigmoidForwardParams&, Stream);
  void (*sigmoid_backward)(const SigmoidBackwardParams&, Stream);
  void (*wide_prepare)(const PrepareParams&, Stream);
  void (*wide_weights)(const WideWeightsParams&, Stream);
  void (*wide_gradient)(const WideGradientParams&, Stream);
  void (*wide_sigmoid_weights)(const WideSigmoidWeightsParams&, Stream);
  void (*wide_sigmoid_gradient)(const WideSigmoidGradientParams&, Stream);
};

// Calls run(exponents) for each kind of shift whose kernels are launched.
template <typename Run>
void for_each_shift(Exponents exponents, const Run& run) {
  if (exponents.undecided) {
    exponents.shared_shift = true;
    run(exponents);
    exponents.shared_shift = false;
  }
  run(exponents);
}

// By what the tensor cores multiply. They always sum in float.
extern const Kernels kBf16Kernels;
extern const Kernels kFp16Kernels;
// Float rows, rounded to 10 bits after the point.
extern const Kernels kTf32Kernels;
// Float rows, each the sum of two such numbers, at a third of the speed: the factors keep 22 of 24
// bits, and the tensor cores truncate sums; losses are 3e-6 to 6e-6 off.
extern const Kernels kTf32x3Kernels;

// These do not depend on the precision.
void finish(const FinishParams&, Stream);
void finish_stats(const StatsFinishParams&, Stream);
void make_terms(const TermsParams&, Stream);
void sigmoid_finish(const SigmoidFinishParams&, Stream);
void make_sigmoid_terms(const SigmoidTermsParams&, Stream);
void wide_forward(const WideForwardParams&, Stream);
void wide_stats_forward(const WideStatsForwardParams&, Stream);
void wide_sigmoid_forward(const WideSigmoidForwardParams&, Stream);

}  // namespace simclr::fused
