#include "progress_bar.h"

#include <unistd.h>

namespace tidemill {
namespace {

constexpr int kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(std::FILE* out) : out_(out), terminal_(isatty(fileno(out)) != 0) {}

Progress ProgressBar::callback() {
  return [this](const std::string& phase, int percent) { show(phase, percent); };
}

void ProgressBar::show(const std::string& phase, int percent) {
  if (phase != phase_) {
    finish();
    phase_ = phase;
    percent_ = -1;
    begun_ = std::chrono::steady_clock::now();
  }
  if (percent == percent_ || !terminal_) return;
  percent_ = percent;
  const std::string done(static_cast<size_t>(percent * kWidth / 100), '#');
  std::fprintf(out_, "\r%-16s [%-*s] %3d %%", phase_.c_str(), kWidth, done.c_str(), percent);
  std::fflush(out_);
}

void ProgressBar::finish() {
  if (phase_.empty()) return;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_;
  if (terminal_) std::fprintf(out_, "\r\033[K");
  std::fprintf(out_, "%-16s %6.2f s\n", phase_.c_str(), took.count());
  std::fflush(out_);
  phase_.clear();
}

}  // namespace tidemill
