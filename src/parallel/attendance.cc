#include "parallel/attendance.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace tidemill {
namespace {

constexpr double kWindow = 0.5;  // seconds of sections that a judgement is made by
constexpr double kTrial = 0.1;   // the same of workers that are tried again
constexpr int kMinSections = 4;
// Without the worker a step is expected to take at most so much of the time that it takes with it.
constexpr double kWorthIt = 0.9;
// Of the time for which others waited for it, what it must have waited for its core itself.
constexpr double kTakenShare = 0.5;
constexpr double kFirstPause = 5.0;  // doubled when the next trial fails
constexpr double kLongestPause = 60.0;

}  // namespace

Attendance::Attendance(int num_workers)
    : present_(static_cast<size_t>(num_workers)), cores_(static_cast<size_t>(num_workers)) {
  std::iota(present_.begin(), present_.end(), 0);
  std::iota(cores_.begin(), cores_.end(), 0);
  out_.reserve(present_.size());
  lanes_.reserve(present_.size());
  forget();
}

void Attendance::forget() {
  seconds_ = 0.0;
  sections_ = 0;
  lanes_.assign(present_.size(), {});
}

std::optional<Attendance::Change> Attendance::observe(double begin, double end,
                                                      const std::vector<OfLane>& lanes) {
  seconds_ += end - begin;
  ++sections_;
  for (size_t lane = 0; lane < lanes_.size(); ++lane) {
    lanes_[lane].seconds_lost += lanes[lane].seconds_lost;
    lanes_[lane].seconds_waited += lanes[lane].seconds_waited;
  }
  if (seconds_ >= (on_trial_ ? kTrial : kWindow) && sections_ >= kMinSections) {
    const std::optional<Change> change = judge(end);
    forget();
    on_trial_ = false;
    if (change) return change;
  }
  if (out_.empty() || on_trial_ || end < retry_at_) return std::nullopt;
  return readmit();
}

// With n workers the work of the one that is left out goes to n - 1.
std::optional<Attendance::Change> Attendance::judge(double now) {
  if (present_.size() < 2) return std::nullopt;
  const auto most = std::max_element(
      lanes_.begin(), lanes_.end(),
      [](const OfLane& a, const OfLane& b) { return a.seconds_lost < b.seconds_lost; });
  const double share = std::min(most->seconds_lost / seconds_, 1.0);
  const auto count = static_cast<double>(present_.size());
  const bool measured = must_measure_waits();
  const bool worth_it = (1.0 - share) * count / (count - 1.0) <= kWorthIt;
  suspicious_ = worth_it && !measured;
  const bool taken = most->seconds_waited >= kTakenShare * most->seconds_lost;
  if (!worth_it || !measured || !taken) return std::nullopt;
  return dismiss(static_cast<size_t>(most - lanes_.begin()), share, now);
}

Attendance::Change Attendance::dismiss(size_t lane, double share, double now) {
  if (lane == 0) {
    // The last lane, or any: all others have a core to themselves as far as is known.
    lane = present_.size() - 1;
    std::swap(cores_[0], cores_[static_cast<size_t>(present_[lane])]);
  }
  const int worker = present_[lane];
  present_.erase(present_.begin() + static_cast<ptrdiff_t>(lane));
  out_.push_back(worker);
  const bool came_back_in_vain = on_trial_ || now < retry_at_ + kFirstPause;
  pause_ = came_back_in_vain && pause_ > 0.0 ? std::min(2.0 * pause_, kLongestPause) : kFirstPause;
  retry_at_ = now + pause_;
  return {.core = core_of(worker), .share_lost = share, .pause_seconds = pause_};
}

// One at a time, first out, first back.
Attendance::Change Attendance::readmit() {
  const int worker = out_.front();
  out_.erase(out_.begin());
  present_.insert(std::upper_bound(present_.begin(), present_.end(), worker), worker);
  on_trial_ = true;
  forget();
  return {.core = core_of(worker), .back = true};
}

}  // namespace tidemill
