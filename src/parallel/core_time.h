// How long a thread has had a core, and how long it was ready to run and a core ran somebody else:
// whether a section was slow or was disturbed.
#pragma once

#include <span>

namespace tidemill {

struct CoreTime {
  double ran = 0.0;     // seconds
  double waited = 0.0;  // seconds; 0 where the kernel does not say it (schedstat of proc(5))
};

// The clock of one thread, which is the one that reads it first, and which alone may read it then.
class CoreClock {
 public:
  CoreClock() = default;
  CoreClock(CoreClock&& other) noexcept;
  CoreClock& operator=(CoreClock&&) = delete;
  ~CoreClock();

  CoreTime read();  // since the thread began; two or three microseconds

 private:
  int schedstat_ = kNotOpened;
  static constexpr int kNotOpened = -2;
};

double process_cpu_seconds();

// Seconds for which strangers have kept one of these workers from its core, of a section in which
// the whole process has had `process_cpu` seconds: what the worker waited that waited longest, less
// what threads of the process that are no workers ran meanwhile.
double kept_from_core(std::span<const CoreTime> workers, double process_cpu);

}  // namespace tidemill
