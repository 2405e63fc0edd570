// Ctrl-C and SIGTERM while a verb compiles and loads a model: what is half-written must go, so the
// work ends with an exception and not with the process.
#pragma once

#include <csignal>
#include <stdexcept>

namespace tidemill {

// Somebody asked the program to end; main.cc turns it into the exit code 128 + signal.
class Stopped : public std::runtime_error {
 public:
  explicit Stopped(int signal) : std::runtime_error("stopped"), signal_(signal) {}
  int signal() const { return signal_; }

 private:
  int signal_;
};

// While it lives, the first SIGINT or SIGTERM is remembered, and the second ends the process at
// once. One at a time.
class StopSignals {
 public:
  StopSignals();
  ~StopSignals();  // brings back what was there before
  StopSignals(const StopSignals&) = delete;
  StopSignals& operator=(const StopSignals&) = delete;

  // Throws Stopped when a signal has come since the last of these was made.
  static void check();

 private:
  struct sigaction old_interrupt_ {};
  struct sigaction old_terminate_ {};
};

}  // namespace tidemill
