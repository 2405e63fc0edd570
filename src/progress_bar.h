// What a person sees while a model is compiled and loaded: a bar on a terminal, otherwise a log
// line for each phase with the time it took.
#pragma once

#include <chrono>
#include <cstdio>
#include <optional>
#include <string>

#include "compiler/progress.h"
#include "stop_signals.h"

namespace tidemill {

class ProgressBar {
 public:
  // With kStop, until finish(): SIGINT and SIGTERM make the callback throw Stopped.
  enum class OnSignal { kStop, kNothing };
  explicit ProgressBar(std::FILE* out, OnSignal on_signal = OnSignal::kStop);
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  ~ProgressBar();  // a bar that was not finished is wiped away

  // Hears phases and percents; outlived by this object.
  Progress callback();
  // Ends the last phase.
  void finish();

 private:
  void show(const std::string& phase, int percent);
  void end_phase();

  std::FILE* out_;
  bool bar_;
  std::optional<StopSignals> signals_;
  std::string phase_;
  int percent_ = -1;
  std::chrono::steady_clock::time_point begun_{};
};

}  // namespace tidemill
