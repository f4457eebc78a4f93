// Restricts the matrix products of the calling thread to that thread.

#pragma once

// From the MKL that torch is linked with; null without MKL.
extern "C" int MKL_Set_Num_Threads_Local(int num_threads) __attribute__((weak));

namespace simclr {

// Each thread multiplies its own tiles. Additional BLAS threads would compete with these, and their
// number could change the rounding.
class SingleThreadedBlas {
 public:
  // Whether this has an effect. If not, products are single-threaded only inside a parallel region
  // of more than one thread.
  static bool available() { return MKL_Set_Num_Threads_Local != nullptr; }

  SingleThreadedBlas() : previous_(available() ? MKL_Set_Num_Threads_Local(1) : 0) {}
  ~SingleThreadedBlas() {
    if (available()) MKL_Set_Num_Threads_Local(previous_);
  }
  SingleThreadedBlas(const SingleThreadedBlas&) = delete;
  SingleThreadedBlas& operator=(const SingleThreadedBlas&) = delete;

 private:
  int previous_;
};

}  // namespace simclr
