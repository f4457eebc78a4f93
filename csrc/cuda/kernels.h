// The fused kernels as host functions, one table per precision.

#pragma once

#include "cuda/params.h"

struct CUstream_st;

namespace simclr::fused {

using Stream = CUstream_st*;  // cudaStream_t

struct Kernels {
  void (*prepare)(const PrepareParams&, Stream);
  // The number of rows of a tile for D = dim; strips are a multiple of it.
  int (*tile_rows)(int64_t dim);
  void (*forward)(const ForwardParams&, Stream);
  void (*backward)(const BackwardParams&, Stream);
};

extern const Kernels kBf16Kernels;
extern const Kernels kFp16Kernels;
extern const Kernels kTf32Kernels;
extern const Kernels kTf32x3Kernels;

// These do not depend on the precision.
void finish(const FinishParams&, Stream);
void make_terms(const TermsParams&, Stream);

}  // namespace simclr::fused
