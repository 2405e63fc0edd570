#include "parallel/core_time.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

namespace tidemill {
namespace {

double seconds_of(clockid_t clock) {
  timespec time{};
  ::clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// Its second number: nanoseconds in a queue of a core.
double waited(int schedstat) {
  char text[96];
  const ssize_t size = schedstat < 0 ? 0 : ::pread(schedstat, text, sizeof(text), 0);
  if (size <= 0) return 0.0;
  const char* end = text + size;
  const char* begin = std::find(static_cast<const char*>(text), end, ' ');
  if (begin == end) return 0.0;
  int64_t nanoseconds = 0;
  std::from_chars(begin + 1, end, nanoseconds);
  return 1e-9 * static_cast<double>(nanoseconds);
}

}  // namespace

CoreClock::CoreClock(CoreClock&& other) noexcept
    : schedstat_(std::exchange(other.schedstat_, kNotOpened)) {}

CoreClock::~CoreClock() {
  if (schedstat_ >= 0) ::close(schedstat_);
}

CoreTime CoreClock::read() {
  if (schedstat_ == kNotOpened) {
    schedstat_ = ::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
  }
  return {.ran = seconds_of(CLOCK_THREAD_CPUTIME_ID), .waited = waited(schedstat_)};
}

double process_cpu_seconds() { return seconds_of(CLOCK_PROCESS_CPUTIME_ID); }

double kept_from_core(std::span<const CoreTime> workers, double process_cpu) {
  double longest = 0.0;
  double others = process_cpu;
  for (const CoreTime& worker : workers) {
    longest = std::max(longest, worker.waited);
    others -= worker.ran;
  }
  return std::max(0.0, longest - std::max(0.0, others));
}

}  // namespace tidemill
