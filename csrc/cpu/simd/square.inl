// Transposes a square of numbers in registers, one row in each. Included after vec.inl.

namespace simclr::simd::SIMCLR_ISA {
namespace {

// 0, 1, ..., kCount - 1, as constants; without the standard library, as vec.inl says.
template <int... kNumbers>
struct Numbers {};
template <int kCount, int... kNumbers>
struct Count : Count<kCount - 1, kCount - 1, kNumbers...> {};
template <int... kNumbers>
struct Count<0, kNumbers...> {
  using Type = Numbers<kNumbers...>;
};

// Where a lane's number comes from when two rows `distance` apart, a and b, exchange the lanes that
// are as far apart: a number of lanes of a, followed by those of b.
constexpr int source_of_upper(int lane, int distance, int lanes) {
  return lane & distance ? lanes + lane - distance : lane;
}
constexpr int source_of_lower(int lane, int distance, int lanes) {
  return lane & distance ? lanes + lane : lane + distance;
}

template <typename T, int... kSources>
SIMCLR_INLINE Vec<T> pick(Vec<T> a, Vec<T> b, Numbers<kSources...>) {
#ifdef __clang__
  return __builtin_shufflevector(a, b, kSources...);
#else
  return __builtin_shuffle(a, b, VecInt<T>{kSources...});
#endif
}

template <typename T, int kDistance, int... kLane>
SIMCLR_INLINE void exchange(Vec<T>& a, Vec<T>& b, Numbers<kLane...>) {
  constexpr int kAll = sizeof...(kLane);
  const Vec<T> upper = pick<T>(a, b, Numbers<source_of_upper(kLane, kDistance, kAll)...>{});
  b = pick<T>(a, b, Numbers<source_of_lower(kLane, kDistance, kAll)...>{});
  a = upper;
}

template <typename T, int kDistance = 1>
SIMCLR_INLINE void transpose_square(Vec<T> (&rows)[kLanes<T>]) {
  if constexpr (kDistance < kLanes<T>) {
    for (int64_t r = 0; r < kLanes<T>; ++r) {
      if (r & kDistance) continue;
      exchange<T, kDistance>(rows[r], rows[r + kDistance], typename Count<kLanes<T>>::Type{});
    }
    transpose_square<T, 2 * kDistance>(rows);
  }
}

}  // namespace
}  // namespace simclr::simd::SIMCLR_ISA
