#include "stop_signals.h"

#include <unistd.h>

#include <atomic>

namespace tidemill {
namespace {

// A handler has no argument that could carry it.
std::atomic<int> signal_that_came{0};
static_assert(std::atomic<int>::is_always_lock_free);

void remember(int signal) {
  if (signal_that_came.exchange(signal) != 0) _exit(128 + signal);
}

}  // namespace

StopSignals::StopSignals() {
  signal_that_came.store(0);
  struct sigaction action {};
  action.sa_handler = remember;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &old_interrupt_);
  sigaction(SIGTERM, &action, &old_terminate_);
}

StopSignals::~StopSignals() {
  sigaction(SIGINT, &old_interrupt_, nullptr);
  sigaction(SIGTERM, &old_terminate_, nullptr);
}

void StopSignals::check() {
  if (const int signal = signal_that_came.load()) throw Stopped(signal);
}

}  // namespace tidemill
