#include "cuda/launch.cuh"

namespace simclr::fused {

void finish(const FinishParams& p, Stream stream) {
  launch(finish_kernel, divide_up(p.count, kRowThreads), kRowThreads, 0, stream, p);
}

void make_terms(const TermsParams& p, Stream stream) {
  const int64_t blocks = divide_up(p.count, kRowThreads);
  launch(max_grad_kernel, blocks, kRowThreads, 0, stream, p);
  launch(terms_kernel, blocks, kRowThreads, 0, stream, p);
}

}  // namespace simclr::fused
