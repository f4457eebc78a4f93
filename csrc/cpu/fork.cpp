#include "cpu/fork.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <pthread.h>

namespace simclr {
namespace {

thread_local bool has_others = false;
thread_local bool lost_others = false;  // by a fork

const int registered = pthread_atfork(nullptr, nullptr, [] {
  lost_others = lost_others || has_others;  // of the thread that forked: there is no other now
});

}  // namespace

void note_threads() { has_others = true; }

void check_threads() {
  TORCH_CHECK(!lost_others || at::get_num_threads() == 1,
              "this process was forked from one that had used torch's threads, which do not exist "
              "here: call torch.set_num_threads(1) first, or start it by spawn");
}

}  // namespace simclr
