#include "progress_bar.h"

#include <unistd.h>

#include "base/log.h"

namespace tidemill {
namespace {

constexpr int kWidth = 30;

}  // namespace

ProgressBar::ProgressBar(std::FILE* out, OnSignal on_signal)
    : out_(out),
      bar_(isatty(fileno(out)) != 0 && log_format() == LogFormat::kText && logs(LogLevel::kInfo)) {
  if (on_signal == OnSignal::kStop) signals_.emplace();
}

ProgressBar::~ProgressBar() {
  if (bar_ && !phase_.empty()) std::fputs("\r\033[K", out_);
}

Progress ProgressBar::callback() {
  return [this](const std::string& phase, int percent) { show(phase, percent); };
}

void ProgressBar::show(const std::string& phase, int percent) {
  if (signals_) StopSignals::check();
  if (phase != phase_) {
    end_phase();
    phase_ = phase;
    percent_ = -1;
    begun_ = std::chrono::steady_clock::now();
  }
  if (percent == percent_ || !bar_) return;
  percent_ = percent;
  const std::string done(static_cast<size_t>(percent * kWidth / 100), '#');
  std::fprintf(out_, "\r%-16s [%-*s] %3d %%", phase_.c_str(), kWidth, done.c_str(), percent);
  std::fflush(out_);
}

void ProgressBar::finish() {
  end_phase();
  // The usual handlers first: no signal falls between the last look and them.
  const bool listened = signals_.has_value();
  signals_.reset();
  if (listened) StopSignals::check();
}

void ProgressBar::end_phase() {
  if (phase_.empty()) return;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun_;
  if (bar_) {
    std::fprintf(out_, "\r\033[K%-16s %6.2f s\n", phase_.c_str(), took.count());
    std::fflush(out_);
  } else {
    log_info("{} took {:.2f} s", phase_, took.count());
  }
  phase_.clear();
}

}  // namespace tidemill
