// The fragments' layouts against an independent source: those that CuTe publishes in CUTLASS.

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>

#include "../cpp/check.h"
#include "fragments.h"

namespace simt {

std::ostream& operator<<(std::ostream& out, const Place& place) {
  return out << "(" << place.row << ", " << place.column << ")";
}

}  // namespace simt

namespace {

using PlaceOf = simt::Place (*)(int, int);

// CuTe numbers the elements of a matrix down its columns.
template <typename Layout>
void check_matrix(const char* name, int elements, int rows, PlaceOf ours) {
  const Layout layout;
  for (int lane = 0; lane < 32; ++lane) {
    for (int e = 0; e < elements; ++e) {
      const int index = layout(lane, e);
      const simt::Place theirs{index % rows, index / rows};
      EXPECT(ours(lane, e) == theirs, name, lane, e, ours(lane, e), theirs);
    }
  }
}

// CuTe's B is the transposed of ours, [N, K].
template <typename Layout>
void check_right_matrix(const char* name, int elements, PlaceOf ours) {
  const Layout layout;
  for (int lane = 0; lane < 32; ++lane) {
    for (int e = 0; e < elements; ++e) {
      const int index = layout(lane, e);
      const simt::Place theirs{index / 8, index % 8};
      EXPECT(ours(lane, e) == theirs, name, lane, e, ours(lane, e), theirs);
    }
  }
}

// Of a copy, CuTe counts bits: lane l names those from 128 l on, a row of 8 elements, and receives
// the bits that its destination lists; 1024 are a matrix.
template <typename Traits>
void check_copy(const char* name, PlaceOf ours) {
  const typename Traits::SrcLayout source;
  const typename Traits::DstLayout destination;
  for (int lane = 0; lane < 32; ++lane) {
    EXPECT(source(lane, 0) == 128 * lane, name, lane, source(lane, 0));
    for (int matrix = 0; matrix < 4; ++matrix) {
      for (int e = 0; e < 2; ++e) {
        const int bit = destination(lane, 16 * (2 * matrix + e)) - 1024 * matrix;
        const simt::Place theirs{bit / 128, bit % 128 / 16};
        EXPECT(ours(lane, e) == theirs, name, lane, matrix, e, ours(lane, e), theirs);
      }
    }
  }
}

template <typename Operation, int kDepth>
void check_mma(const char* name, PlaceOf a, PlaceOf b) {
  using Traits = cute::MMA_Traits<Operation>;
  check_matrix<typename Traits::ALayout>(name, kDepth / 2, 16, a);
  check_right_matrix<typename Traits::BLayout>(name, kDepth / 4, b);
  check_matrix<typename Traits::CLayout>(name, 4, 16, simt::c_16x8);
}

}  // namespace

int main() {
  check_mma<cute::SM80_16x8x16_F32BF16BF16F32_TN, 16>("bf16", simt::a_16x16, simt::b_16x8);
  check_mma<cute::SM80_16x8x16_F32F16F16F32_TN, 16>("fp16", simt::a_16x16, simt::b_16x8);
  check_mma<cute::SM80_16x8x8_F32TF32TF32F32_TN, 8>("tf32", simt::a_16x8, simt::b_8x8);
  check_copy<cute::Copy_Traits<cute::SM75_U32x4_LDSM_N>>("ldmatrix", simt::matrix_8x8);
  check_copy<cute::Copy_Traits<cute::SM75_U16x8_LDSM_T>>("ldmatrix.trans",
                                                         simt::matrix_8x8_transposed);
  return failures;
}
