// The inner loops on bfloat16, written once. Included after kernels.inl; see kernels.h for what
// each computes.

namespace simclr::simd::SIMCLR_ISA {
namespace {

typedef uint32_t Words __attribute__((vector_size(SIMCLR_VECTOR_BYTES)));
typedef uint16_t Halves __attribute__((vector_size(SIMCLR_VECTOR_BYTES / 2)));

// The nearest bfloat16, to even; NaN stays NaN.
SIMCLR_INLINE Halves round_to_half(Vec<float> value) {
  const Words bits = reinterpret_cast<Words>(value);
  const Words rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return __builtin_convertvector(value == value ? rounded : Words{} + 0x7fc0, Halves);
}

SIMCLR_INLINE uint16_t round_to_half(float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  if (value != value) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

SIMCLR_INLINE float to_float(uint16_t half) {
  const uint32_t bits = static_cast<uint32_t>(half) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof(value));
  return value;
}

void widen(const uint16_t* from, int64_t count, float factor, float* to) {
  for (int64_t k = 0; k < count; ++k) to[k] = to_float(from[k]) * factor;
}

void narrow(const float* from, int64_t count, uint16_t* to) {
  for (int64_t k = 0; k < count; ++k) to[k] = round_to_half(from[k]);
}

void scale(float* s, int64_t rows, int64_t columns, int64_t stride, const float* row_factor,
           const float* column_factor) {
  for (int64_t r = 0; r < rows; ++r) {
    float* row = s + r * stride;
    for (int64_t c = 0; c < columns; ++c) row[c] *= row_factor[r] * column_factor[c];
  }
}

void transpose_pairs(const uint16_t* from, int64_t rows, int64_t dim, uint16_t* to,
                     int64_t to_columns) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t d = 0; d < dim; d += 2) {
      __builtin_memcpy(to + d * to_columns + 2 * r, from + r * dim + d, 2 * sizeof(*to));
    }
  }
}

void interleave_rows(const uint16_t* from, int64_t rows, int64_t columns, int64_t from_stride,
                     uint16_t* to, int64_t to_columns) {
  for (int64_t r = 0; r < rows; r += 2) {
    const uint16_t* first = from + r * from_stride;
    const uint16_t* second = first + from_stride;
    uint16_t* pairs = to + r * to_columns;
    const bool last = r + 1 == rows;
    for (int64_t c = 0; c < columns; ++c) {
      pairs[2 * c] = first[c];
      pairs[2 * c + 1] = last ? 0 : second[c];
    }
  }
}

void round_rows(const float* from, int64_t rows, int64_t columns, int64_t from_stride,
                const float* factor, uint16_t* to, int64_t to_stride) {
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = from + r * from_stride;
    uint16_t* out = to + r * to_stride;
    int64_t c = 0;
    for (; c + kLanes<float> <= columns; c += kLanes<float>) {
      const Halves halves = round_to_half(load(row + c) * load(factor + c));
      __builtin_memcpy(out + c, &halves, sizeof(halves));
    }
    for (; c < columns; ++c) out[c] = round_to_half(row[c] * factor[c]);
    for (; c < to_stride; ++c) out[c] = 0;
  }
}

void round_transposed(const float* from, int64_t rows, int64_t columns, int64_t from_stride,
                      const float* factor, uint16_t* to, int64_t to_stride) {
  constexpr int64_t kSide = kLanes<float>;
  const int64_t whole_rows = rows - rows % kSide;
  const int64_t whole_columns = columns - columns % kSide;
  for (int64_t r = 0; r < whole_rows; r += kSide) {
    for (int64_t c = 0; c < whole_columns; c += kSide) {
      Vec<float> square[kSide];
      for (int64_t i = 0; i < kSide; ++i) {
        square[i] = load(from + (r + i) * from_stride + c) * factor[r + i];
      }
      transpose_square<float>(square);
      for (int64_t k = 0; k < kSide; ++k) {
        const Halves column = round_to_half(square[k]);
        __builtin_memcpy(to + (c + k) * to_stride + r, &column, sizeof(column));
      }
    }
  }
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c) {
      to[c * to_stride + r] = round_to_half(from[r * from_stride + c] * factor[r]);
    }
  }
  for (int64_t r = rows; r < to_stride; ++r) {
    for (int64_t c = 0; c < columns; ++c) to[c * to_stride + r] = 0;
  }
}

}  // namespace

HalfKernels half_table() {
  return {widen, narrow, scale, transpose_pairs, interleave_rows, round_rows, round_transposed};
}

}  // namespace simclr::simd::SIMCLR_ISA
