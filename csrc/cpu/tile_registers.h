// Gives back the AMX tile registers of the calling thread.

#pragma once

#include <ATen/native/CPUBlas.h>

namespace simclr {

// On processors with AMX, oneDNN's products of bfloat16 configure them and leave them so: the
// system would save 8 KiB of them at each switch of threads, and the core would stay out of sleep.
struct TileRegisters {
  TileRegisters() = default;
  ~TileRegisters() { at::native::cpublas::brgemm_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

}  // namespace simclr
