// The kernels for wide rows that depend on the precision, in all precisions.

#include "cuda/launch.cuh"
#include "cuda/wide_gradient.cuh"
#include "cuda/wide_launch.cuh"
#include "cuda/wide_weights.cuh"

namespace simclr::fused {

template <typename Element>
void launch_wide_prepare(const PrepareParams& p, Stream stream) {
  launch(wide_prepare_kernel<Element>, divide_up(p.count, kWideRowsPerBlock), kRowThreads, 0,
         stream, p);
}

template <typename Element>
void launch_wide_weights(const WideWeightsParams& p, Stream stream) {
  const bool labels = p.pass.pairing.label != nullptr;
  const auto kernel = p.pass.exponents.shared_shift
                          ? (labels ? wide_weights_kernel<Element, true, true>
                                    : wide_weights_kernel<Element, true, false>)
                          : (labels ? wide_weights_kernel<Element, false, true>
                                    : wide_weights_kernel<Element, false, false>);
  launch(kernel, wide_blocks(p.tile), kWideThreads, 0, stream, p);
}

template <typename Element>
void launch_wide_gradient(const WideGradientParams& p, Stream stream) {
  launch(wide_gradient_kernel<Element>, divide_up(p.pass.wanted.size(), kWideRowsPerBlock),
         kRowThreads, kRadialSumBytes, stream, p);
}

template <typename Element>
void launch_wide_sigmoid_weights(const WideSigmoidWeightsParams& p, Stream stream) {
  launch(wide_sigmoid_weights_kernel<Element>, wide_blocks(p.pass.tile), kWideThreads, 0, stream,
         p);
}

template <typename Element>
void launch_wide_sigmoid_gradient(const WideSigmoidGradientParams& p, Stream stream) {
  launch(wide_sigmoid_gradient_kernel<Element>,
         divide_up(p.pass.pass.wanted.size(), kWideRowsPerBlock), kRowThreads, kRadialSumBytes,
         stream, p);
}

#define SIMCLR_INSTANTIATE(Element)                                                            \
  template void launch_wide_prepare<Element>(const PrepareParams&, Stream);                    \
  template void launch_wide_weights<Element>(const WideWeightsParams&, Stream);                \
  template void launch_wide_gradient<Element>(const WideGradientParams&, Stream);              \
  template void launch_wide_sigmoid_weights<Element>(const WideSigmoidWeightsParams&, Stream); \
  template void launch_wide_sigmoid_gradient<Element>(const WideSigmoidGradientParams&, Stream);
SIMCLR_INSTANTIATE(Bf16)
SIMCLR_INSTANTIATE(Fp16)
SIMCLR_INSTANTIATE(Tf32)
SIMCLR_INSTANTIATE(Tf32x3)
#undef SIMCLR_INSTANTIATE

}  // namespace simclr::fused
