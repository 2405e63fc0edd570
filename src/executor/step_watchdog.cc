#include "executor/step_watchdog.h"

#include <algorithm>
#include <cstdlib>

#include "base/log.h"
#include "base/thread_name.h"

namespace tidemill {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr int kLongestSteps = 20;
constexpr milliseconds kLeastInterval{50};
constexpr milliseconds kMostInterval{1000};

double seconds(Clock::duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

Clock::duration watchdog_time(const LoopGauges& gauges, const ExecutorOptions& options) {
  const Clock::duration least = milliseconds(options.step_watchdog_ms);
  return std::min<Clock::duration>(std::max(least, kLongestSteps * gauges.longest_step.load()),
                                   milliseconds(options.predict_timeout_ms));
}

std::optional<Clock::duration> stalled_for(const LoopGauges& gauges, const ExecutorOptions& options,
                                           Clock::time_point now) {
  const auto heartbeat = gauges.heartbeat.load();
  if (heartbeat == Clock::time_point{} || gauges.failed.load()) return std::nullopt;
  const auto age = now - heartbeat;
  if (age < watchdog_time(gauges, options)) return std::nullopt;
  return age;
}

StepWatchdog::StepWatchdog(const LoopGauges& gauges, const ExecutorOptions& options,
                           std::string model_name)
    : gauges_(gauges),
      options_(options),
      model_name_(std::move(model_name)),
      thread_([this] { watch(); }) {}

StepWatchdog::~StepWatchdog() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  ends_.notify_one();
  thread_.join();
}

void StepWatchdog::watch() {
  name_thread("watchdog");
  const milliseconds interval =
      std::clamp(milliseconds(options_.step_watchdog_ms) / 10, kLeastInterval, kMostInterval);
  std::unique_lock lock(mutex_);
  while (!ends_.wait_for(lock, interval, [this] { return ending_; })) look();
}

void StepWatchdog::look() {
  const auto age = stalled_for(gauges_, options_, Clock::now());
  if (age && !told_) dump(*age);
  if (!age && told_) log_warning("model {}: steps complete again", model_name_);
  told_ = age.has_value();
  const milliseconds exit_time(options_.stalled_step_exit_ms);
  if (!age || exit_time.count() == 0 || *age < exit_time) return;
  log_error("model {}: a step has not come back for {:.0f} s; the program ends (stalled_step_exit)",
            model_name_, seconds(*age));
  std::_Exit(EXIT_FAILURE);  // destructors would wait for the step
}

void StepWatchdog::dump(Clock::duration age) const {
  log_error(
      "model {}: no step has completed for {:.1f} s, longest before {:.3f} s; running={} "
      "waiting={} in_system={} ended={} held_blocks={} cached_blocks={} total_blocks={}; health "
      "says 503 until one does",
      model_name_, seconds(age), seconds(gauges_.longest_step.load()), gauges_.running.load(),
      gauges_.waiting.load(), gauges_.in_system.load(), gauges_.ended.load(),
      gauges_.held_blocks.load(), gauges_.cached_blocks.load(), gauges_.total_blocks.load());
}

}  // namespace tidemill
