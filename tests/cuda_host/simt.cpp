// Fibers jump to other stacks, which fortified functions take for a mistake.
#undef _FORTIFY_SOURCE

#include "simt.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <exception>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <unordered_map>
#include <vector>

// AddressSanitizer must be told when the stack changes.
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
inline void __asan_unpoison_memory_region(const volatile void*, size_t) {}
inline void __sanitizer_start_switch_fiber(void**, const void*, size_t) {}
inline void __sanitizer_finish_switch_fiber(void*, const void**, size_t*) {}
#endif

namespace simt {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr int kNobody = -1;
constexpr int kSeveral = -2;

std::mt19937_64 random_numbers;
int64_t launch_count = 0;

// The stack of a block's thread `index`. Blocks use the same ones, one after the other.
unsigned char* stack(int index) {
  static std::vector<std::unique_ptr<unsigned char[]>> stacks;
  while (static_cast<int>(stacks.size()) <= index) {
    stacks.emplace_back(new unsigned char[kStackBytes]);
  }
  return stacks[index].get();
}

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Failure(message.str());
}

// Who touched a word of shared memory, and in which epoch: the number of barriers before.
struct Word {
  int writer = kNobody;
  int write_epoch = 0;
  int reader = kNobody;
  int read_epoch = -1;
  bool copying = false;
};

class SharedMemory {
 public:
  explicit SharedMemory(int bytes) : memory_(bytes, 0xff), words_(bytes / 4) {}

  unsigned char* at(int offset, int bytes) {
    if (offset < 0 || offset % bytes != 0 || offset + bytes > static_cast<int>(memory_.size())) {
      fail("shared memory: ", bytes, " bytes at ", offset, " of ", memory_.size());
    }
    return memory_.data() + offset;
  }

  void check_read(int offset, int bytes, int thread, int epoch) {
    for (Word& word : words(offset, bytes)) {
      if (word.copying) race("reads while a copy is under way", offset, thread);
      if (word.writer == kNobody) race("reads what nobody wrote", offset, thread);
      if (word.writer != thread && word.write_epoch == epoch) {
        race("reads what another thread wrote, with no barrier in between", offset, thread);
      }
      const bool alone = word.read_epoch != epoch || word.reader == thread;
      word.reader = alone ? thread : kSeveral;
      word.read_epoch = epoch;
    }
  }

  void check_write(int offset, int bytes, int thread, int epoch) {
    for (Word& word : words(offset, bytes)) {
      if (word.copying) race("writes while a copy is under way", offset, thread);
      if (word.writer != kNobody && word.writer != thread && word.write_epoch == epoch) {
        race("writes what another thread wrote, with no barrier in between", offset, thread);
      }
      if (word.read_epoch == epoch && word.reader != thread) {
        race("writes what another thread read, with no barrier in between", offset, thread);
      }
      word.writer = thread;
      word.write_epoch = epoch;
    }
  }

  void set_copying(int offset, int bytes, bool copying) {
    for (Word& word : words(offset, bytes)) word.copying = copying;
  }

 private:
  struct Words {
    Word* first;
    Word* last;
    Word* begin() const { return first; }
    Word* end() const { return last; }
  };
  Words words(int offset, int bytes) {
    at(offset, bytes);
    return {&words_[offset / 4], &words_[offset / 4] + bytes / 4};
  }

  [[noreturn]] static void race(const char* what, int offset, int thread) {
    fail("shared memory at ", offset, ": thread ", thread, " ", what);
  }

  std::vector<unsigned char> memory_;
  std::vector<Word> words_;
};

struct Copy {
  int offset;
  int bytes;
  const void* source;  // null: zeros
};

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Thread {
  ucontext_t begin;
  // Where it goes on. swapcontext would save the signal mask, too: its system calls took most of
  // the time of these tests.
  jmp_buf place;
  bool begun = false;
  unsigned char* stack = nullptr;
  State state = State::kReady;
  int epoch = 0;
  std::vector<Copy> open_group;
  std::deque<std::vector<Copy>> groups;
  const char* collective = nullptr;
  void* operand = nullptr;
};

class Block {
 public:
  Block(int id, int threads, int shared_bytes, const std::function<void()>& kernel)
      : id_(id),
        kernel_(kernel),
        shared_(shared_bytes),
        threads_(threads),
        in_warp_(threads / kWarpSize) {}

  void run();
  void wait(State state);
  // Returns whether the running thread is the last one to arrive.
  bool arrive_at_barrier() { return ++at_barrier_ == size(); }
  void finish_barrier();
  bool arrive_in_warp(int warp) { return ++in_warp_[warp] == kWarpSize; }
  void finish_collective(int warp, void (*operate)(void* const (&operands)[32]));

  int id() const { return id_; }
  int running() const { return running_; }
  int size() const { return static_cast<int>(threads_.size()); }
  Thread& thread(int index) { return threads_[index]; }
  SharedMemory& shared() { return shared_; }
  int count(State state) const {
    return std::count_if(threads_.begin(), threads_.end(),
                         [&](const Thread& thread) { return thread.state == state; });
  }

 private:
  static void prepare(Thread& thread);
  static void enter();
  void switch_to_thread(int index);
  [[noreturn]] static void go_on(Thread& thread);
  void switch_to_scheduler(bool for_ever);
  void make_ready(int index) {
    threads_[index].state = State::kReady;
    ready_.push_back(index);
  }

  int id_;
  const std::function<void()>& kernel_;
  SharedMemory shared_;
  std::vector<Thread> threads_;
  std::vector<int> ready_;
  int at_barrier_ = 0;        // how many threads wait there
  std::vector<int> in_warp_;  // and for the others of their warp
  int running_ = 0;
  jmp_buf scheduler_;
  const void* scheduler_stack_ = nullptr;
  size_t scheduler_stack_bytes_ = 0;
  std::exception_ptr error_;
};

Block* block = nullptr;  // the one that runs
int64_t blocks_of_launch = 0;
std::unordered_map<const void*, int> owners;  // blocks of the launch, by address

Thread& self() { return block->thread(block->running()); }

void Block::run() {
  for (int i = 0; i < size(); ++i) {
    threads_[i].stack = stack(i);
    prepare(threads_[i]);
    make_ready(i);
  }
  while (!ready_.empty() && !error_) {
    std::swap(ready_[random_numbers() % ready_.size()], ready_.back());
    const int next = ready_.back();
    ready_.pop_back();
    switch_to_thread(next);
  }
  if (error_) std::rethrow_exception(error_);
  if (count(State::kDone) == size()) return;
  fail("block ", id_, ": ", count(State::kAtBarrier), " threads wait at a barrier and ",
       count(State::kInWarp), " for their warps, for ever; ", count(State::kDone), " are done");
}

void Block::prepare(Thread& thread) {
  // Fibers never return from their first function, whose frame stays guarded.
  __asan_unpoison_memory_region(thread.stack, kStackBytes);
  getcontext(&thread.begin);
  thread.begin.uc_stack.ss_sp = thread.stack;
  thread.begin.uc_stack.ss_size = kStackBytes;
  thread.begin.uc_link = nullptr;
  makecontext(&thread.begin, enter, 0);
}

void Block::go_on(Thread& thread) {
  if (thread.begun) _longjmp(thread.place, 1);
  thread.begun = true;
  setcontext(&thread.begin);
  std::abort();  // setcontext does not return
}

void Block::enter() {
  __sanitizer_finish_switch_fiber(nullptr, &block->scheduler_stack_,
                                  &block->scheduler_stack_bytes_);
  try {
    block->kernel_();
    if (!self().open_group.empty() || !self().groups.empty()) {
      fail("thread ", block->running(), " ends before its copies are complete");
    }
  } catch (...) {
    block->error_ = std::current_exception();
  }
  self().state = State::kDone;
  block->switch_to_scheduler(true);
}

void Block::switch_to_thread(int index) {
  running_ = index;
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, threads_[index].stack, kStackBytes);
  if (_setjmp(scheduler_) == 0) go_on(threads_[index]);
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
}

void Block::switch_to_scheduler(bool for_ever) {
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &fake_stack, scheduler_stack_,
                                 scheduler_stack_bytes_);
  if (_setjmp(threads_[running_].place) == 0) _longjmp(scheduler_, 1);
  __sanitizer_finish_switch_fiber(fake_stack, &scheduler_stack_, &scheduler_stack_bytes_);
}

void Block::wait(State state) {
  self().state = state;
  switch_to_scheduler(false);
}

void Block::finish_barrier() {
  at_barrier_ = 0;
  for (int i = 0; i < size(); ++i) {
    ++threads_[i].epoch;
    if (i != running_) make_ready(i);
  }
}

void Block::finish_collective(int warp, void (*operate)(void* const (&operands)[32])) {
  in_warp_[warp] = 0;
  const int first = warp * kWarpSize;
  void* operands[kWarpSize];
  for (int lane = 0; lane < kWarpSize; ++lane) {
    const Thread& thread = threads_[first + lane];
    if (std::strcmp(thread.collective, self().collective) != 0) {
      fail("warp ", warp, ": thread ", first + lane, " is at ", thread.collective, " and thread ",
           running_, " at ", self().collective);
    }
    operands[lane] = thread.operand;
  }
  operate(operands);
  for (int lane = 0; lane < kWarpSize; ++lane) {
    if (first + lane != running_) make_ready(first + lane);
  }
}

}  // namespace

void set_seed(uint64_t seed) { random_numbers.seed(seed); }
int64_t launches() { return launch_count; }

void launch(int64_t blocks, int threads, int shared_bytes, const std::function<void()>& kernel) {
  ++launch_count;
  blocks_of_launch = blocks;
  if (threads % kWarpSize != 0) fail("a block of ", threads, " threads is not made of warps");
  std::vector<int> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_numbers);
  owners.clear();
  for (const int id : order) {
    Block current(id, threads, shared_bytes, kernel);
    block = &current;
    current.run();
  }
  block = nullptr;
}

int block_id() { return block->id(); }
int64_t blocks() { return blocks_of_launch; }
int thread_id() { return block->running(); }

void own(const void* address) {
  const int owner = owners.try_emplace(address, block_id()).first->second;
  if (owner == block_id()) return;
  fail("global memory: a number owned by block ", owner, " and by block ", block_id());
}

void sync_threads() {
  if (block->arrive_at_barrier()) {
    block->finish_barrier();
  } else {
    block->wait(State::kAtBarrier);
  }
}

void warp_collective(const char* name, void* operand,
                     void (*operate)(void* const (&operands)[32])) {
  const int warp = thread_id() / kWarpSize;
  self().collective = name;
  self().operand = operand;
  if (block->arrive_in_warp(warp)) {
    block->finish_collective(warp, operate);
  } else {
    block->wait(State::kInWarp);
  }
}

const unsigned char* shared_read(int offset, int bytes, int lane) {
  const int thread = thread_id() / kWarpSize * kWarpSize + lane;
  block->shared().check_read(offset, bytes, thread, self().epoch);
  return block->shared().at(offset, bytes);
}

unsigned char* shared_write(int offset, int bytes) {
  block->shared().check_write(offset, bytes, thread_id(), self().epoch);
  return block->shared().at(offset, bytes);
}

void copy_async(int offset, const void* global, int bytes, bool valid) {
  if (valid && reinterpret_cast<uintptr_t>(global) % bytes != 0) {
    fail("copy of ", bytes, " bytes from the address ", global, ", which is not aligned");
  }
  // A copy that reads nothing has a readable address all the same: for AddressSanitizer here, and
  // for a sanitizer on a GPU that looks at the address alone.
  const auto* source = static_cast<const volatile unsigned char*>(global);
  (void)source[0];
  (void)source[bytes - 1];
  block->shared().check_write(offset, bytes, thread_id(), self().epoch);
  block->shared().set_copying(offset, bytes, true);
  self().open_group.push_back({offset, bytes, valid ? global : nullptr});
}

void copy_async_commit() {
  self().groups.push_back(std::move(self().open_group));
  self().open_group.clear();
}

void copy_async_wait(int pending_groups) {
  while (static_cast<int>(self().groups.size()) > pending_groups) {
    for (const Copy& copy : self().groups.front()) {
      block->shared().set_copying(copy.offset, copy.bytes, false);
      unsigned char* target = shared_write(copy.offset, copy.bytes);
      if (copy.source == nullptr) {
        std::memset(target, 0, copy.bytes);
      } else {
        std::memcpy(target, copy.source, copy.bytes);
      }
    }
    self().groups.pop_front();
  }
}

}  // namespace simt
