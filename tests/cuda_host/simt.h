// A simulated GPU: runs a kernel's blocks one after the other on the CPU, a block's threads as
// fibers that take turns in random order, and detects errors that a GPU does not report:
//
//   - shared memory that is read before it is written, or read by one thread and written by another
//     with no barrier in between, or accessed during an asynchronous copy;
//   - deadlocks, and threads of a warp that reach different instructions;
//   - copies that were never waited for;
//   - numbers in global memory that a kernel says one block owns, and two blocks access.
//
// Each of these throws simt::Failure. Threads switch only where they wait for others, so other
// interleavings are not executed: the race detector judges them by the barriers.

#pragma once

#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>

namespace simt {

constexpr int kWarpSize = 32;

class Failure : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Decides the order of blocks and threads in all launches that follow.
void set_seed(uint64_t seed);

// Runs `kernel` for every thread of every block.
void launch(int64_t blocks, int threads, int shared_bytes, const std::function<void()>& kernel);

// How often `launch` was called.
int64_t launches();

// ---- For the thread that runs. ----

int block_id();
int64_t blocks();
int thread_id();
void sync_threads();

// The running block claims this address of global memory for the whole launch.
void own(const void* address);

// Waits until all lanes of the warp have called it with the same name. The last one to come
// operates for all: on their operands, in the order of the lanes.
void warp_collective(const char* name, void* operand, void (*operate)(void* const (&operands)[32]));

// ---- Shared memory, by offset in bytes. The pointer is good for the one access that was asked
// for, by a lane of the running thread's warp. ----

const unsigned char* shared_read(int offset, int bytes, int lane);
unsigned char* shared_write(int offset, int bytes);

// Copies happen as late as they may: in the wait that they must be complete after. Where not
// `valid`, zeros are written, but the address is read.
void copy_async(int offset, const void* global, int bytes, bool valid);
void copy_async_commit();
void copy_async_wait(int pending_groups);

}  // namespace simt
