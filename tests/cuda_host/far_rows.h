// Rows so far apart that an element's offset takes more than 32 bits.

#pragma once

#include <sys/mman.h>
#include <torch/types.h>

#include <cstdint>

// Little of their memory exists.
class FarRows {
 public:
  static constexpr int64_t kRows = 20;
  static constexpr int64_t kDim = 9;
  static constexpr int kStride = 1 << 27;
  static_assert(kRows * kStride > int64_t{1} << 31);

  explicit FarRows(at::ScalarType dtype)
      : bytes_(kRows * kStride * torch::elementSize(dtype)),
        memory_(mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    TORCH_CHECK(memory_ != MAP_FAILED, bytes_, " bytes");
    rows = torch::from_blob(memory_, {kRows, kDim}, {kStride, 1}, dtype);
  }
  ~FarRows() { munmap(memory_, bytes_); }
  FarRows(const FarRows&) = delete;

  at::Tensor rows;

 private:
  size_t bytes_;
  void* memory_;
};
