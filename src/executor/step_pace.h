// How long steps take, learned from those that were made: what the scheduler keeps a step's time by
// (max_step_ms). Pure: plans and seconds come in, costs go out. Owned by the step loop's thread.
//
// A step's time is taken to be
//   fixed + decode tokens and their keys + prompt tokens and their keys,
// each by a cost of its own. The five costs are followed by a Kalman filter: each step corrects
// those that it says something about, and those that it does not become less certain, within
// bounds. Prompts' tokens in a step grow by doubling. What steps vary by beyond that is measured,
// too, and kept as a distance from the limit.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "scheduler/step_plan.h"

namespace tidemill {

// Of steps with a limit: whether one took longer than it should, and whether strangers had a part
// in that. 99 of 100 that they left alone are meant to be within.
struct StepVerdict {
  bool over = false;
  bool disturbed = false;
};
inline constexpr double kOverLimit = 1.15;       // of the limit
inline constexpr double kDisturbedShare = 0.03;  // of a step, for which a worker had no core

class StepPace {
 public:
  // Most milliseconds of a step; 0: there is no limit, and nothing is learned.
  explicit StepPace(int64_t max_step_ms);

  // In seconds. Of the limit so much is kept back that 99 steps of 100 stay within 1.08 of it.
  StepCosts costs() const;
  // `delay`: so much of it some worker has waited for its core, which somebody else had. The more,
  // the less such a step says of what steps cost; that times vary it says all the same.
  void observe(const StepPlan& plan, double seconds, double delay = 0.0);

  // Nothing where there is no limit.
  std::optional<StepVerdict> judge(double seconds, double delay) const;

  double predict(const StepPlan& plan) const { return cost_of(plan.work(), costs()); }

 private:
  static constexpr size_t kCount = 5;
  using Numbers = std::array<double, kCount>;

  void correct(const Numbers& work, double seconds, double delay);
  void forbid_negative();

  double limit_;
  Numbers costs_{};                         // in the order of StepCosts
  Numbers units_{};                         // of each: what is uncertain about it at first
  std::array<Numbers, kCount> variance_{};  // of costs_ / units_
  double reached_ = 0.0;                    // prompt tokens of a step lately
  double spread_;  // mean square of what a step's time differs by, as a share of it
};

}  // namespace tidemill
