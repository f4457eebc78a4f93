// The launches of the kernels for wide rows that depend on the precision; compiled in
// kernels_wide_rows.cu, for all precisions.

#pragma once

#include "cuda/kernels.h"

namespace simclr::fused {

inline int64_t wide_blocks(const WideTile& tile) {
  return divide_up(tile.place.rows.size(), kWideRows) *
         divide_up(tile.place.columns.size(), kWideColumns);
}

template <typename Element>
void launch_wide_prepare(const PrepareParams& p, Stream stream);
template <typename Element>
void launch_wide_weights(const WideWeightsParams& p, Stream stream);
template <typename Element>
void launch_wide_gradient(const WideGradientParams& p, Stream stream);
template <typename Element>
void launch_wide_sigmoid_weights(const WideSigmoidWeightsParams& p, Stream stream);
template <typename Element>
void launch_wide_sigmoid_gradient(const WideSigmoidGradientParams& p, Stream stream);

}  // namespace simclr::fused
