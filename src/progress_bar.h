// What a person sees while a model is compiled and loaded: a bar on a terminal, otherwise a plain
// line for each phase with the time it took.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "compiler/progress.h"

namespace tidemill {

class ProgressBar {
 public:
  explicit ProgressBar(std::FILE* out);

  // Hears phases and percents; outlived by this object.
  Progress callback();
  // Ends the last phase.
  void finish();

 private:
  void show(const std::string& phase, int percent);

  std::FILE* out_;
  bool terminal_;
  std::string phase_;
  int percent_ = -1;
  std::chrono::steady_clock::time_point begun_{};
};

}  // namespace tidemill
