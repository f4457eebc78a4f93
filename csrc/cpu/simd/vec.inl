// A vector of floats or doubles as wide as a register, and 2^(scale x) on it.
//
// Included by one source file per instruction set, which defines SIMCLR_ISA (a namespace) and
// SIMCLR_VECTOR_BYTES and switches the compiler to that instruction set. Built on the vector types
// that GCC and Clang share: arithmetic on them uses plain operators, on every architecture.
// Nothing here may include a standard header: its inline functions would be compiled for this
// instruction set, and the linker could pick them for processors that lack it.

namespace simclr::simd::SIMCLR_ISA {
namespace {

template <typename T>
struct VecTypes;

template <>
struct VecTypes<float> {
  typedef float Vec __attribute__((vector_size(SIMCLR_VECTOR_BYTES)));
  typedef int32_t Int __attribute__((vector_size(SIMCLR_VECTOR_BYTES)));
};

template <>
struct VecTypes<double> {
  typedef double Vec __attribute__((vector_size(SIMCLR_VECTOR_BYTES)));
  typedef int64_t Int __attribute__((vector_size(SIMCLR_VECTOR_BYTES)));
};

template <typename T>
using Vec = typename VecTypes<T>::Vec;
template <typename T>
using VecInt = typename VecTypes<T>::Int;
template <typename T>
constexpr int64_t kLanes = SIMCLR_VECTOR_BYTES / sizeof(T);

#define SIMCLR_INLINE inline __attribute__((always_inline))

template <typename T>
SIMCLR_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  __builtin_memcpy(&v, p, sizeof(v));
  return v;
}

template <typename T>
SIMCLR_INLINE void store(T* p, Vec<T> v) {
  __builtin_memcpy(p, &v, sizeof(v));
}

template <typename T>
SIMCLR_INLINE Vec<T> broadcast(T x) {
  return Vec<T>{} + x;
}

// Sum of the lanes, by halves.
template <typename T>
SIMCLR_INLINE T sum(Vec<T> v) {
  T lanes[kLanes<T>];
  store(lanes, v);
  for (int64_t width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int64_t k = 0; k < width; ++k) lanes[k] += lanes[k + width];
  }
  return lanes[0];
}

// Lane-wise maximum; a NaN in `a` is dropped (its exponential still reaches the sums).
template <typename T>
SIMCLR_INLINE Vec<T> max(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

template <typename T>
SIMCLR_INLINE T max_lane(Vec<T> v) {
  T best = v[0];
  for (int64_t k = 1; k < kLanes<T>; ++k) best = v[k] > best ? v[k] : best;
  return best;
}

// Minimax polynomials of 2^f over [-1/2, 1/2], lowest degree first, and the layout of the exponent.
// Exactly 1 at 0: where one logit dominates a row, the loss is the logarithm of a number near 1.
template <typename T>
struct Exp2;

template <>
struct Exp2<float> {  // relative error 2.0e-9
  static constexpr float kPoly[] = {1.0f,
                                    0.69314720287563519f,
                                    0.240226479125542667f,
                                    0.0555033242245945438f,
                                    0.0096184373290405752f,
                                    0.00133988951359120315f,
                                    0.000153534202895269751f};
  static constexpr float kMin = -126.0f;  // below: 0, never a denormal
  static constexpr float kLargest = __FLT_MAX__;
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits of the sum; this constant
  // also adds the exponent's bias.
  static constexpr float kRound = 12582912.0f + 127.0f;
  static constexpr int kMantissaBits = 23;
};

template <>
struct Exp2<double> {  // relative error 3.4e-18
  static constexpr double kPoly[] = {1.0,
                                     0.693147180559945326,
                                     0.240226506959101313,
                                     0.0555041086648200827,
                                     0.00961812910759410777,
                                     0.00133335581467747086,
                                     0.000154035304571296634,
                                     0.000015252733493083123,
                                     1.32154352726229672e-6,
                                     1.01781995731959112e-7,
                                     7.07378505885796772e-9,
                                     4.43477368051350636e-10};
  static constexpr double kMin = -1022.0;
  static constexpr double kLargest = __DBL_MAX__;
  static constexpr double kRound = 6755399441055744.0 + 1023.0;
  static constexpr int kMantissaBits = 52;
};

// 2^(scale x) for scale > 0: within 2 ulp (of the rounded product, where there is no fused
// multiply-add), 0 below the normal range, NaN for NaN. The product must be below 128 (float) or
// 1024 (double).
template <typename T>
class ScaledExp2 {
 public:
  // Pairs that do not count, -infinity, are below the lowest for the smallest scale, too.
  SIMCLR_INLINE explicit ScaledExp2(T scale)
      : scale_(scale), lowest_(E::kMin / scale > -E::kLargest ? E::kMin / scale : -E::kLargest) {}

  SIMCLR_INLINE Vec<T> operator()(Vec<T> x) const {
    constexpr int kDegree = sizeof(E::kPoly) / sizeof(T) - 1;
    // Nothing else uses the product: the compiler fuses it into both of these.
    const Vec<T> rounded = x * scale_ + E::kRound;
    const Vec<T> fraction = x * scale_ - (rounded - E::kRound);
    Vec<T> p = broadcast<T>(E::kPoly[kDegree]);
    for (int k = kDegree - 1; k >= 0; --k) p = p * fraction + E::kPoly[k];
    // A product, not an addition of exponents: a NaN with any payload must stay NaN.
    const VecInt<T> exponent = reinterpret_cast<VecInt<T>>(rounded) << E::kMantissaBits;
    const Vec<T> power = p * reinterpret_cast<Vec<T>>(exponent);
    return x < lowest_ ? Vec<T>{} : power;
  }

 private:
  using E = Exp2<T>;
  T scale_;
  T lowest_;
};

// log(1 + e) for 0 <= e <= 1: 2 artanh(t), t = e / (2 + e) <= 1/3, by its series; within 2 ulp.
template <typename T>
SIMCLR_INLINE Vec<T> log1p_of_power(Vec<T> e) {
  constexpr int kTerms = sizeof(T) == 4 ? 8 : 17;
  const Vec<T> t = e / (e + T(2));
  const Vec<T> square = t * t;
  Vec<T> p = broadcast<T>(T(1) / (2 * kTerms - 1));
  for (int k = kTerms - 2; k >= 0; --k) p = p * square + T(1) / (2 * k + 1);
  return 2 * t * p;
}

}  // namespace
}  // namespace simclr::simd::SIMCLR_ISA
