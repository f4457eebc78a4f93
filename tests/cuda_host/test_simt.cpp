// The simulated GPU: it computes what a GPU would, and detects the errors that it must detect.

#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "../cpp/check.h"
#include "simt.h"
#include "truncated_sum.h"

namespace {

void store(int offset, int value) { std::memcpy(simt::shared_write(offset, 4), &value, 4); }
int load(int offset) {
  int value;
  std::memcpy(&value, simt::shared_read(offset, 4, simt::thread_id() % 32), 4);
  return value;
}

// Fails unless a block of 64 threads with 512 bytes fails with these words.
void expect_failure(const std::string& words, const std::function<void()>& kernel) {
  try {
    simt::launch(1, 64, 512, kernel);
  } catch (const simt::Failure& failure) {
    EXPECT(std::string(failure.what()).find(words) != std::string::npos, failure.what(), words);
    return;
  }
  EXPECT(false, words);
}

void test_threads_exchange_values_across_a_barrier() {
  std::vector<int> out(3 * 64);
  simt::launch(3, 64, 256, [&] {
    const int thread = simt::thread_id();
    store(4 * thread, thread + 1);
    simt::sync_threads();
    out[64 * simt::block_id() + thread] = load(4 * (63 - thread));
  });
  for (int i = 0; i < 3 * 64; ++i) EXPECT(out[i] == 64 - i % 64, i, out[i]);
}

void test_warps_operate_together() {
  std::vector<int> out(64);
  simt::launch(1, 64, 0, [&] {
    int value = simt::thread_id();
    simt::warp_collective("sum", &value, [](void* const(&operands)[32]) {
      int sum = 0;
      for (void* operand : operands) sum += *static_cast<int*>(operand);
      for (void* operand : operands) *static_cast<int*>(operand) = sum;
    });
    out[simt::thread_id()] = value;
  });
  for (int i = 0; i < 64; ++i) EXPECT(out[i] == (i < 32 ? 496 : 1520), i, out[i]);
}

void test_numbers_of_two_blocks() {
  int numbers[2];
  simt::launch(2, 64, 0, [&] { simt::own(&numbers[simt::block_id()]); });
  simt::launch(1, 64, 0, [&] { simt::own(&numbers[1]); });  // in a launch of its own
  try {
    simt::launch(2, 64, 0, [&] { simt::own(&numbers[0]); });
  } catch (const simt::Failure& failure) {
    EXPECT(std::string(failure.what()).find("owned by block") != std::string::npos, failure.what());
    return;
  }
  EXPECT(false, "two blocks own a number");
}

void test_copies_arrive_when_waited_for() {
  const std::vector<int> source = {7, 8, 9, 10};
  std::vector<int> out(4);
  simt::launch(1, 32, 64, [&] {
    if (simt::thread_id() != 0) return;
    simt::copy_async(0, source.data(), 16, true);
    simt::copy_async_commit();
    simt::copy_async(16, source.data(), 16, false);
    simt::copy_async_commit();
    simt::copy_async_wait(1);
    out[0] = load(4);
    simt::copy_async_wait(0);
    out[1] = load(16);
  });
  EXPECT(out[0] == 8 && out[1] == 0, out[0], out[1]);
}

void test_failures() {
  expect_failure("reads what nobody wrote", [] { load(0); });
  expect_failure("bytes at 512 of 512", [] { store(512, 1); });
  expect_failure("reads what another thread wrote", [] {
    if (simt::thread_id() == 0) {
      store(0, 1);
      simt::warp_collective("wake", nullptr, [](void* const(&)[32]) {});
    } else if (simt::thread_id() < 32) {
      simt::warp_collective("wake", nullptr, [](void* const(&)[32]) {});
      load(0);
    }
  });
  expect_failure("writes what another thread wrote", [] { store(0, 1); });
  expect_failure("writes what another thread read", [] {
    if (simt::thread_id() == 0) store(0, 1);
    simt::sync_threads();
    if (simt::thread_id() >= 32) return;
    load(0);
    simt::warp_collective("wake", nullptr, [](void* const(&)[32]) {});
    store(0, 2);
  });
  expect_failure("reads while a copy is under way", [] {
    static const int source[4] = {};
    if (simt::thread_id() != 0) return;
    simt::copy_async(0, source, 16, true);
    simt::copy_async_commit();
    load(0);
  });
  expect_failure("before its copies are complete", [] {
    static const int source[4] = {};
    if (simt::thread_id() != 0) return;
    simt::copy_async(0, source, 16, true);
    simt::copy_async_commit();
  });
  expect_failure("not aligned", [] {
    static const int source[8] = {};
    const auto address = reinterpret_cast<uintptr_t>(source) / 16 * 16 + 20;
    simt::copy_async(0, reinterpret_cast<const void*>(address), 16, true);
  });
  expect_failure("for ever", [] {
    if (simt::thread_id() != 5) simt::sync_threads();
  });
  expect_failure("is at", [] {
    const char* name = simt::thread_id() == 5 ? "left" : "right";
    simt::warp_collective(name, nullptr, [](void* const(&)[32]) {});
  });
}

// In units of the last bit of 1: what rounds up is cut off instead, on both sides of zero; a half
// is kept until the end, and less than that is lost at once.
void test_tensor_cores_cut_off() {
  const float one_up = 1 + 0x1p-23f;
  const auto sum = [](float start, double first, double second) {
    return simt::truncated_sum(start, {first, second});
  };
  EXPECT(sum(1, 0x1p-24, 0) == 1, sum(1, 0x1p-24, 0));
  EXPECT(sum(one_up, 0x1p-24, 0) == one_up, sum(one_up, 0x1p-24, 0));
  EXPECT(sum(-one_up, -0x1p-24, 0) == -one_up, sum(-one_up, -0x1p-24, 0));
  EXPECT(sum(1, 0x1p-24, 0x1p-24) == one_up, sum(1, 0x1p-24, 0x1p-24));
  EXPECT(sum(1, 0x1.8p-25, 0x1.8p-25) == 1, sum(1, 0x1.8p-25, 0x1.8p-25));
  EXPECT(sum(0x1p-30f, 0x1p-31, 0) == 0x1.8p-30f, sum(0x1p-30f, 0x1p-31, 0));
  EXPECT(sum(0, 0, 0) == 0, sum(0, 0, 0));
  EXPECT(std::isinf(sum(1, INFINITY, 1)), sum(1, INFINITY, 1));
  EXPECT(std::isnan(sum(NAN, 1, 1)), sum(NAN, 1, 1));
}

}  // namespace

int main() {
  test_threads_exchange_values_across_a_barrier();
  test_warps_operate_together();
  test_numbers_of_two_blocks();
  test_copies_arrive_when_waited_for();
  test_failures();
  test_tensor_cores_cut_off();
  return failures;
}
