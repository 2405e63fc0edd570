#include "server/service_pace.h"

#include <algorithm>
#include <cmath>

namespace tidemill {
namespace {

using std::chrono::seconds;

constexpr seconds kPaceInterval{1};
constexpr seconds kWindow{30};
constexpr double kMostSeconds = 30.0;

}  // namespace

void ServicePace::observe(Time now, int64_t num_ended) {
  const std::lock_guard lock(mutex_);
  while (!samples_.empty() && now - samples_.front().time > kWindow) samples_.pop_front();
  if (samples_.empty() || now - samples_.back().time >= kPaceInterval) {
    samples_.push_back({now, num_ended});
  }
}

int64_t ServicePace::seconds_for(Time now, int64_t num_ended, int64_t num_ahead) const {
  const std::lock_guard lock(mutex_);
  if (samples_.empty()) return 1;
  const Sample& oldest = samples_.front();
  const double elapsed = std::chrono::duration<double>(now - oldest.time).count();
  const auto ended = static_cast<double>(num_ended - oldest.num_ended);
  // Nothing has ended yet: it takes longer than it was watched.
  const double wait =
      ended > 0 ? static_cast<double>(num_ahead) * elapsed / ended : std::max(elapsed, 1.0);
  return static_cast<int64_t>(std::clamp(std::ceil(wait), 1.0, kMostSeconds));
}

}  // namespace tidemill
