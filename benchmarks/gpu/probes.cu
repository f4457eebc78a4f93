// Small measurements of the machine itself, with the functions that the kernels are written in.
//
//   probes mma bf16|fp16|tf32 [FILE]   how a tensor core rounds sums; FILE gets raw samples as CSV
//   probes ex2                         the error of exp2_fast
//   probes rate mma_bf16|mma_tf32|ex2|ldmatrix|fma
//   probes plant memory|race           faults that compute-sanitizer must find
//
// Prints one line of JSON.

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "cuda/device.cuh"

#define CHECK(call)                                                                       \
  do {                                                                                    \
    const cudaError_t error = (call);                                                     \
    if (error != cudaSuccess) {                                                           \
      std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, cudaGetErrorString(error)); \
      std::exit(1);                                                                       \
    }                                                                                     \
  } while (0)

namespace {

using simclr::fused::exp2_fast;

template <typename T>
T* managed(size_t count) {
  T* data = nullptr;
  CHECK(cudaMallocManaged(&data, count * sizeof(T)));
  return data;
}

// ---- How a tensor core adds: d [16, 8] = a [16, K] b [K, 8] + c, one warp per sample. ----

enum class Kind { kBf16, kFp16, kTf32 };

// Operands are stored as floats that the kind holds exactly.
__device__ uint32_t pack(Kind kind, float low, float high) {
  if (kind == Kind::kBf16) return simclr::fused::pack_bf16(low, high);
  return simclr::fused::pack_fp16(low, high);
}

__global__ void mma_kernel(Kind kind, const float* a, const float* b, const float* c, float* d) {
  const int depth = kind == Kind::kTf32 ? 8 : 16;
  const int lane = threadIdx.x;
  const int g = lane / 4;
  const int t = lane % 4;
  a += blockIdx.x * 16 * depth;
  b += blockIdx.x * depth * 8;
  c += blockIdx.x * 128;
  d += blockIdx.x * 128;
  float sums[4];
  for (int e = 0; e < 4; ++e) sums[e] = c[(g + 8 * (e / 2)) * 8 + 2 * t + e % 2];
  uint32_t left[4];
  uint32_t right[2];
  if (kind == Kind::kTf32) {
    for (int r = 0; r < 4; ++r)
      left[r] = __float_as_uint(a[(g + 8 * (r % 2)) * 8 + t + 4 * (r / 2)]);
    for (int r = 0; r < 2; ++r) right[r] = __float_as_uint(b[(t + 4 * r) * 8 + g]);
    simclr::fused::mma_tf32(sums, left, right);
  } else {
    for (int r = 0; r < 4; ++r) {
      const float* pair = a + (g + 8 * (r % 2)) * 16 + 2 * t + 8 * (r / 2);
      left[r] = pack(kind, pair[0], pair[1]);
    }
    for (int r = 0; r < 2; ++r) {
      const int row = 2 * t + 8 * r;
      right[r] = pack(kind, b[row * 8 + g], b[(row + 1) * 8 + g]);
    }
    if (kind == Kind::kBf16) simclr::fused::mma_bf16(sums, left, right);
    if (kind == Kind::kFp16) simclr::fused::mma_fp16(sums, left, right);
  }
  for (int e = 0; e < 4; ++e) d[(g + 8 * (e / 2)) * 8 + 2 * t + e % 2] = sums[e];
}

float toward_zero(long double x) {
  const float rounded = static_cast<float>(x);
  const bool away = std::fabs(static_cast<long double>(rounded)) > std::fabs(x);
  return away ? std::nextafter(rounded, 0.0f) : rounded;
}

int probe_mma(const std::string& name, const char* file) {
  const Kind kind = name == "bf16" ? Kind::kBf16 : name == "fp16" ? Kind::kFp16 : Kind::kTf32;
  const int bits = name == "bf16" ? 8 : 11;  // of a number, with the leading one
  const int depth = kind == Kind::kTf32 ? 8 : 16;
  constexpr int kSamples = 512;
  float* a = managed<float>(kSamples * 16 * depth);
  float* b = managed<float>(kSamples * depth * 8);
  float* c = managed<float>(kSamples * 128);
  float* d = managed<float>(kSamples * 128);
  std::mt19937 random(1);
  const auto operand = [&] {
    const int mantissa = (1 << (bits - 1)) + static_cast<int>(random() % (1u << (bits - 1)));
    const float x =
        std::ldexp(static_cast<float>(mantissa), static_cast<int>(random() % 8) - bits - 3);
    return random() % 2 == 0 ? x : -x;
  };
  for (int i = 0; i < kSamples * 16 * depth; ++i) a[i] = operand();
  for (int i = 0; i < kSamples * depth * 8; ++i) b[i] = operand();
  for (int i = 0; i < kSamples * 128; ++i) {
    c[i] = std::ldexp(static_cast<float>(static_cast<int32_t>(random())),
                      static_cast<int>(random() % 8) - 32);
  }
  mma_kernel<<<kSamples, 32>>>(kind, a, b, c, d);
  CHECK(cudaGetLastError());
  CHECK(cudaDeviceSynchronize());

  std::FILE* out = file == nullptr ? nullptr : std::fopen(file, "w");
  if (out != nullptr) std::fprintf(out, "a x %d, b x %d, c, d; hexadecimal floats\n", depth, depth);
  int rounded = 0;
  int truncated = 0;
  double largest = 0;
  double bias = 0;
  for (int i = 0; i < kSamples * 128; ++i) {
    const int sample = i / 128;
    const int row = i / 8 % 16;
    const int column = i % 8;
    long double sum = c[i];
    for (int k = 0; k < depth; ++k) {
      const float x = a[(sample * 16 + row) * depth + k];
      const float y = b[(sample * depth + k) * 8 + column];
      sum += static_cast<long double>(x) * y;
      if (out != nullptr && i < 512) std::fprintf(out, "%a,%a,", x, y);
    }
    if (out != nullptr && i < 512) std::fprintf(out, "%a,%a\n", c[i], d[i]);
    rounded += d[i] == static_cast<float>(sum);
    truncated += d[i] == toward_zero(sum);
    int exponent = 0;
    std::frexp(static_cast<float>(sum), &exponent);
    const double ulps = std::ldexp(static_cast<double>(d[i] - sum), 24 - exponent);
    largest = std::fmax(largest, std::fabs(ulps));
    bias += sum < 0 ? -ulps : ulps;  // negative: toward zero
  }
  if (out != nullptr) std::fclose(out);
  const double count = kSamples * 128;
  std::printf(
      "{\"kind\": \"%s\", \"sums\": %.0f, \"as rounded to nearest\": %.4f, \"as cut off\": %.4f, "
      "\"largest error, ulp\": %.3f, \"mean error away from zero, ulp\": %.4f}\n",
      name.c_str(), count, rounded / count, truncated / count, largest, bias / count);
  return 0;
}

// ---- The error of 2^x. ----

struct Error {
  double largest;  // ulp
  float at;
  double sum;  // with its sign
};

__global__ void ex2_kernel(float low, float high, int per_thread, Error* errors) {
  const int thread = blockIdx.x * blockDim.x + threadIdx.x;
  const double threads = static_cast<double>(gridDim.x) * blockDim.x;
  Error error = {0, 0, 0};
  for (int i = 0; i < per_thread; ++i) {
    const double part = (thread + static_cast<double>(i) / per_thread) / threads;
    const float x = static_cast<float>(low + (static_cast<double>(high) - low) * part);
    const double exact = exp2(static_cast<double>(x));
    int exponent = 0;
    frexp(exact, &exponent);
    const double ulps = ldexp(static_cast<double>(exp2_fast(x)) - exact, 24 - exponent);
    if (fabs(ulps) > error.largest) error = {fabs(ulps), x, error.sum};
    error.sum += ulps;
  }
  errors[thread] = error;
}

int probe_ex2() {
  constexpr int kBlocks = 256;
  constexpr int kThreads = 256;
  constexpr int kEach = 256;
  Error* errors = managed<Error>(kBlocks * kThreads);
  const float edges[] = {-125, -16, -2, -1, 0, 1, 100};
  std::printf("{\"ranges\": [");
  for (int range = 0; range + 1 < 7; ++range) {
    ex2_kernel<<<kBlocks, kThreads>>>(edges[range], edges[range + 1], kEach, errors);
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    Error all = {0, 0, 0};
    for (int i = 0; i < kBlocks * kThreads; ++i) {
      if (errors[i].largest > all.largest) all = {errors[i].largest, errors[i].at, all.sum};
      all.sum += errors[i].sum;
    }
    std::printf(
        "%s{\"from\": %g, \"to\": %g, \"largest error, ulp\": %.3f, \"at\": %.9g, "
        "\"mean error, ulp\": %.4f}",
        range == 0 ? "" : ", ", edges[range], edges[range + 1], all.largest, all.at,
        all.sum / kBlocks / kThreads / kEach);
  }
  std::printf("]}\n");
  return 0;
}

// ---- Rates: instructions of a warp per clock of a multiprocessor. ----

enum class Unit { kMmaBf16, kMmaTf32, kEx2, kLdmatrix, kFma };
constexpr int kChains = 8;  // independent, so that latency is hidden
constexpr int kTurns = 2048;
constexpr int kWarps = 8;

template <Unit kUnit>
__global__ void __launch_bounds__(32 * kWarps) rate_kernel(float* sink, long long* clocks) {
  float x[kChains][4];
  const uint32_t left[4] = {threadIdx.x, 1, 2, 3};
  const uint32_t right[2] = {threadIdx.x, 5};
  for (int c = 0; c < kChains; ++c) {
    for (int e = 0; e < 4; ++e) x[c][e] = -1e-3f * static_cast<float>(threadIdx.x + c + e);
  }
  const int row = static_cast<int>(threadIdx.x) % 32 * 16;
  __syncthreads();
  const long long start = clock64();
#pragma unroll 1
  for (int turn = 0; turn < kTurns; ++turn) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) {
      if constexpr (kUnit == Unit::kMmaBf16) simclr::fused::mma_bf16(x[c], left, right);
      if constexpr (kUnit == Unit::kMmaTf32) simclr::fused::mma_tf32(x[c], left, right);
      if constexpr (kUnit == Unit::kEx2) {
        asm volatile("ex2.approx.ftz.f32 %0, %0;" : "+f"(x[c][0]));
      }
      if constexpr (kUnit == Unit::kFma) {
        asm volatile("fma.rn.f32 %0, %0, %1, %1;" : "+f"(x[c][0]) : "f"(x[c][1]));
      }
      if constexpr (kUnit == Unit::kLdmatrix) {
        uint32_t matrix[4];
        simclr::fused::load_matrices(matrix, row + 512 * c);
        asm volatile("" ::"r"(matrix[0]), "r"(matrix[1]), "r"(matrix[2]), "r"(matrix[3]));
      }
    }
  }
  const long long end = clock64();
  float sum = 0;
  for (int c = 0; c < kChains; ++c) {
    for (int e = 0; e < 4; ++e) sum += x[c][e];
  }
  if (sum == 12345.0f) *sink = sum;
  if (threadIdx.x == 0) clocks[blockIdx.x] = end - start;
}

int probe_rate(const std::string& name) {
  struct Entry {
    const char* name;
    void (*kernel)(float*, long long*);
    double work;  // of a warp's instruction
    const char* unit;
  };
  const Entry entries[] = {
      {"mma_bf16", rate_kernel<Unit::kMmaBf16>, 2.0 * 16 * 8 * 16, "FLOP"},
      {"mma_tf32", rate_kernel<Unit::kMmaTf32>, 2.0 * 16 * 8 * 8, "FLOP"},
      {"ex2", rate_kernel<Unit::kEx2>, 32, "exponentials"},
      {"ldmatrix", rate_kernel<Unit::kLdmatrix>, 512, "bytes"},
      {"fma", rate_kernel<Unit::kFma>, 64, "FLOP"},
  };
  int processors = 0;
  CHECK(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0));
  constexpr int kBlocksEach = 2;
  const int blocks = kBlocksEach * processors;
  float* sink = managed<float>(1);
  long long* clocks = managed<long long>(blocks);
  cudaEvent_t start, end;
  CHECK(cudaEventCreate(&start));
  CHECK(cudaEventCreate(&end));
  for (const Entry& entry : entries) {
    if (name != entry.name) continue;
    for (int turn = 0; turn < 5; ++turn) {
      if (turn == 4) CHECK(cudaEventRecord(start));
      entry.kernel<<<blocks, 32 * kWarps, 8192>>>(sink, clocks);
    }
    CHECK(cudaEventRecord(end));
    CHECK(cudaGetLastError());
    CHECK(cudaDeviceSynchronize());
    float ms = 0;
    CHECK(cudaEventElapsedTime(&ms, start, end));
    double longest = 0;
    for (int i = 0; i < blocks; ++i) longest = std::fmax(longest, static_cast<double>(clocks[i]));
    const double each = static_cast<double>(kBlocksEach) * kWarps * kTurns * kChains;
    std::printf(
        "{\"unit\": \"%s\", \"instructions per clock and multiprocessor\": %.4f, "
        "\"%s per second\": %.4g, \"ms\": %.3f}\n",
        entry.name, each / longest, entry.unit, each * processors * entry.work / ms * 1e3, ms);
    return 0;
  }
  return 2;
}

// ---- Faults, planted to see that compute-sanitizer is looking. ----

__global__ void simclr_planted_memory(int* data) { data[threadIdx.x + 1024] = 1; }
__global__ void simclr_planted_race(int* data) {
  __shared__ int shared[64];
  shared[threadIdx.x] = static_cast<int>(threadIdx.x);
  data[threadIdx.x] = shared[63 - threadIdx.x];  // no barrier before
}

int plant(const std::string& name) {
  int* data = nullptr;
  CHECK(cudaMalloc(&data, 64 * sizeof(int)));
  if (name == "memory") simclr_planted_memory<<<1, 64>>>(data);
  if (name == "race") simclr_planted_race<<<1, 64>>>(data);
  std::printf("{\"planted\": \"%s\", \"error\": \"%s\"}\n", name.c_str(),
              cudaGetErrorString(cudaDeviceSynchronize()));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string probe = argc > 1 ? argv[1] : "";
  const std::string what = argc > 2 ? argv[2] : "";
  if (probe == "mma") return probe_mma(what, argc > 3 ? argv[3] : nullptr);
  if (probe == "ex2") return probe_ex2();
  if (probe == "rate") return probe_rate(what);
  if (probe == "plant") return plant(what);
  std::fprintf(stderr, "usage: probes mma|ex2|rate|plant ...\n");
  return 2;
}
