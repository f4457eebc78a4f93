// The inner loops, written once. See kernels.h for what each computes and vec.inl for the vectors.

#include "vec.inl"
// Uses the vectors.
#include "square.inl"

namespace simclr::simd::SIMCLR_ISA {
namespace {

template <typename T>
void tile_max(TileData<T> tile, T* row_max, T* col_max) {
  for (int64_t c = 0; c < tile.columns; ++c) col_max[c] = tile.s[c];
  for (int64_t r = 0; r < tile.rows; ++r) {
    const T* s = tile.s + r * tile.stride;
    Vec<T> best = load(s);
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      const Vec<T> value = load(s + c);
      best = max<T>(value, best);
      store(col_max + c, max<T>(value, load(col_max + c)));
    }
    row_max[r] = max_lane<T>(best);
  }
}

// Rows `first` to `first` + kRows: independent chains of exponentials for the processor to overlap,
// and one load and store of the column sums for all of them.
template <int kRows, bool kShared, typename T>
SIMCLR_INLINE void exp_sums_group(TileData<T> tile, int64_t first, T scale, const T* row_shift,
                                  const T* col_shift, T* row_sum, T* col_sum) {
  const T* s = tile.s + first * tile.stride;
  const ScaledExp2<T> exp2(scale);
  Vec<T> row_acc[kRows] = {};
  for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
    Vec<T> col_acc = load(col_sum + c);
    for (int r = 0; r < kRows; ++r) {
      const Vec<T> value = load(s + r * tile.stride + c);
      const Vec<T> row_exp = exp2(value - row_shift[first + r]);
      row_acc[r] += row_exp;
      col_acc += kShared ? row_exp : exp2(value - load(col_shift + c));
    }
    store(col_sum + c, col_acc);
  }
  for (int r = 0; r < kRows; ++r) row_sum[first + r] = sum<T>(row_acc[r]);
}

template <bool kShared, typename T>
void exp_sums_tile(TileData<T> tile, T scale, const T* row_shift, const T* col_shift, T* row_sum,
                   T* col_sum) {
  constexpr int kRows = 4;
  for (int64_t c = 0; c < tile.columns; ++c) col_sum[c] = 0;
  int64_t r = 0;
  for (; r + kRows <= tile.rows; r += kRows) {
    exp_sums_group<kRows, kShared>(tile, r, scale, row_shift, col_shift, row_sum, col_sum);
  }
  for (; r < tile.rows; ++r) {
    exp_sums_group<1, kShared>(tile, r, scale, row_shift, col_shift, row_sum, col_sum);
  }
}

template <typename T>
void exp_sums(TileData<T> tile, T scale, const T* row_shift, const T* col_shift, T* row_sum,
              T* col_sum, bool shared) {
  (shared ? exp_sums_tile<true, T> : exp_sums_tile<false, T>)(tile, scale, row_shift, col_shift,
                                                              row_sum, col_sum);
}

template <typename T>
void weighted_sums(TileData<T> tile, T scale, const T* row_shift, const T* col_shift, T* row_sum,
                   T* col_sum) {
  const ScaledExp2<T> exp2(scale);
  const Vec<T> lowest = broadcast<T>(-__builtin_inf());
  for (int64_t c = 0; c < tile.columns; ++c) col_sum[c] = 0;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const T* s = tile.s + r * tile.stride;
    Vec<T> row_acc = {};
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      const Vec<T> value = load(s + c);
      const Vec<T> factor = value == lowest ? Vec<T>{} : value;  // 0 times -inf would be NaN
      row_acc += factor * exp2(value - row_shift[r]);
      store(col_sum + c, load(col_sum + c) + factor * exp2(value - load(col_shift + c)));
    }
    row_sum[r] = sum<T>(row_acc);
  }
}

template <typename T>
void tile_argmax(TileData<T> tile, T* row_max, Index<T>* row_arg, T* col_max, Index<T>* col_arg) {
  const Vec<T> lowest = broadcast<T>(-__builtin_inf());
  for (int64_t c = 0; c < tile.columns; ++c) {
    col_max[c] = lowest[0];
    col_arg[c] = -1;
  }
  VecInt<T> lanes;
  for (int64_t k = 0; k < kLanes<T>; ++k) lanes[k] = k;
  for (int64_t r = 0; r < tile.rows; ++r) {
    const T* s = tile.s + r * tile.stride;
    const VecInt<T> row = VecInt<T>{} + static_cast<Index<T>>(r);
    Vec<T> best = lowest;
    VecInt<T> arg = VecInt<T>{} - 1;
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      const Vec<T> value = load(s + c);
      const VecInt<T> column = lanes + static_cast<Index<T>>(c);
      arg = value > best ? column : arg;  // before `best` changes
      best = value > best ? value : best;
      const Vec<T> col_best = load(col_max + c);
      VecInt<T> col_place;
      __builtin_memcpy(&col_place, col_arg + c, sizeof(col_place));
      col_place = value > col_best ? row : col_place;
      __builtin_memcpy(col_arg + c, &col_place, sizeof(col_place));
      store(col_max + c, value > col_best ? value : col_best);
    }
    int64_t lane = 0;  // the largest, and of equal ones the first column; those without have -1
    for (int64_t k = 1; k < kLanes<T>; ++k) {
      const bool first = best[k] == best[lane] && arg[k] >= 0 && arg[k] < arg[lane];
      if (best[k] > best[lane] || first) lane = k;
    }
    row_max[r] = best[lane];
    row_arg[r] = arg[lane];
  }
}

template <bool kShared, typename T>
void pair_weights_tile(TileData<T> tile, T scale, const T* row_shift, const T* col_shift,
                       const T* row_weight, const T* col_weight) {
  const ScaledExp2<T> exp2(scale);
  for (int64_t r = 0; r < tile.rows; ++r) {
    T* s = tile.s + r * tile.stride;
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      const Vec<T> value = load(s + c);
      const Vec<T> row_exp = exp2(value - row_shift[r]);
      const Vec<T> col_exp = kShared ? row_exp : exp2(value - load(col_shift + c));
      store(s + c, row_exp * row_weight[r] + col_exp * load(col_weight + c));
    }
  }
}

template <typename T>
void pair_weights(TileData<T> tile, T scale, const T* row_shift, const T* col_shift,
                  const T* row_weight, const T* col_weight, bool shared) {
  (shared ? pair_weights_tile<true, T>
          : pair_weights_tile<false, T>)(tile, scale, row_shift, col_shift, row_weight, col_weight);
}

// Of u = scale s + bias. -inf gives 0 for both.
template <typename T>
class Softplus {
 public:
  SIMCLR_INLINE Softplus(T scale, T bias) : scale_(scale), bias_(bias), exp2_(kLog2E) {}

  SIMCLR_INLINE void operator()(Vec<T> s, Vec<T>* softplus, Vec<T>* sigmoid) const {
    const Vec<T> zero = {};
    const Vec<T> u = s * scale_ + bias_;
    const Vec<T> e = exp2_(u < zero ? u : -u);  // e^-|u|
    if (softplus != nullptr) *softplus = max<T>(u, zero) + log1p_of_power<T>(e);
    *sigmoid = (u < zero ? e : broadcast<T>(1)) / (e + T(1));
  }

 private:
  static constexpr T kLog2E = T(1.4426950408889634074L);
  T scale_;
  T bias_;
  ScaledExp2<T> exp2_;
};

template <typename T>
void softplus_sums(TileData<T> tile, T scale, T bias, T* softplus_sum, T* sigmoid_sum) {
  const Softplus<T> of(scale, bias);
  for (int64_t r = 0; r < tile.rows; ++r) {
    const T* s = tile.s + r * tile.stride;
    Vec<T> softplus_acc = {};
    Vec<T> sigmoid_acc = {};
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      Vec<T> softplus, sigmoid;
      of(load(s + c), &softplus, &sigmoid);
      softplus_acc += softplus;
      sigmoid_acc += sigmoid;
    }
    softplus_sum[r] = sum<T>(softplus_acc);
    sigmoid_sum[r] = sum<T>(sigmoid_acc);
  }
}

template <typename T>
void sigmoid_weights(TileData<T> tile, T scale, T bias, const T* row_weight) {
  const Softplus<T> of(scale, bias);
  for (int64_t r = 0; r < tile.rows; ++r) {
    T* s = tile.s + r * tile.stride;
    for (int64_t c = 0; c < tile.columns; c += kLanes<T>) {
      Vec<T> sigmoid;
      of(load(s + c), nullptr, &sigmoid);
      store(s + c, sigmoid * row_weight[r]);
    }
  }
}

// Square blocks with one row per vector lane are transposed in registers.
template <bool kAdd, typename T>
void transpose(const T* from, int64_t rows, int64_t columns, int64_t from_stride, T* to,
               int64_t to_stride) {
  constexpr int64_t kSide = kLanes<T>;
  for (int64_t r = 0; r < rows; r += kSide) {
    for (int64_t c = 0; c < columns; c += kSide) {
      if (r + kSide > rows || c + kSide > columns) {
        const int64_t last_row = r + kSide > rows ? rows : r + kSide;
        const int64_t last_column = c + kSide > columns ? columns : c + kSide;
        for (int64_t i = r; i < last_row; ++i) {
          for (int64_t k = c; k < last_column; ++k) {
            const T value = from[i * from_stride + k];
            to[k * to_stride + i] = kAdd ? to[k * to_stride + i] + value : value;
          }
        }
        continue;
      }
      Vec<T> square[kSide];
      for (int64_t i = 0; i < kSide; ++i) square[i] = load(from + (r + i) * from_stride + c);
      transpose_square<T>(square);
      for (int64_t k = 0; k < kSide; ++k) {
        T* target = to + (c + k) * to_stride + r;
        store(target, kAdd ? square[k] + load(target) : square[k]);
      }
    }
  }
}

// x . y in double, with kLanes running sums that the compiler can keep in vector registers.
template <typename T>
SIMCLR_INLINE double dot(const T* x, const T* y, int64_t dim) {
  double acc[kLanes<T>] = {};
  int64_t d = 0;
  for (; d + kLanes<T> <= dim; d += kLanes<T>) {
    for (int64_t k = 0; k < kLanes<T>; ++k) {
      acc[k] += static_cast<double>(x[d + k]) * static_cast<double>(y[d + k]);
    }
  }
  double total = 0;
  for (; d < dim; ++d) total += static_cast<double>(x[d]) * static_cast<double>(y[d]);
  for (int64_t k = 0; k < kLanes<T>; ++k) total += acc[k];
  return total;
}

template <typename T>
void normalize_rows(T* z, int64_t rows, int64_t dim, double eps, T* inv_norm) {
  for (int64_t r = 0; r < rows; ++r) {
    T* row = z + r * dim;
    const double norm = __builtin_sqrt(dot(row, row, dim));
    // The comparison is false for NaN, so that the row becomes NaN.
    const T scale = static_cast<T>(1.0 / (norm < eps ? eps : norm));
    for (int64_t d = 0; d < dim; ++d) row[d] *= scale;
    inv_norm[r] = scale;
  }
}

template <typename T>
double normalize_rows_backward(const T* z, T* dz, int64_t rows, int64_t dim, double eps,
                               const T* inv_norm) {
  const T inv_eps = static_cast<T>(1.0 / eps);  // rounded as in normalize_rows
  double total = 0;
  for (int64_t r = 0; r < rows; ++r) {
    const T* row = z + r * dim;
    T* grad = dz + r * dim;
    const double radial = dot(row, grad, dim);
    total += radial;
    if (inv_norm == nullptr) continue;
    const T scale = inv_norm[r];
    const T along = scale == inv_eps ? T(0) : static_cast<T>(radial);
    for (int64_t d = 0; d < dim; ++d) grad[d] = (grad[d] - along * row[d]) * scale;
  }
  return total;
}

}  // namespace

template <typename T>
Kernels<T> table() {
  return {tile_max<T>,        exp_sums<T>,       weighted_sums<T>,          tile_argmax<T>,
          pair_weights<T>,    softplus_sums<T>,  sigmoid_weights<T>,        transpose<false, T>,
          transpose<true, T>, normalize_rows<T>, normalize_rows_backward<T>};
}

template Kernels<float> table<float>();
template Kernels<double> table<double>();

}  // namespace simclr::simd::SIMCLR_ISA
