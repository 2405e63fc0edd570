#include "executor/step_pace.h"

#include <algorithm>
#include <cmath>

namespace tidemill {
namespace {

// Before anything is known a prompt's first chunk has 64 tokens: a limit is spent on so many.
constexpr double kFirstTokens = 64.0;
constexpr double kFirstKeys = 64.0 * 4096.0;
// What first chunks take is put down to their tokens, not to every step: so the next ones are too
// small rather than too large.
constexpr double kFirstFixed = 0.125;  // of the limit

// Steps that are all alike do not tell what their parts cost, and much larger ones may take much
// longer than is thought: from step to step prompts get at most so many times the tokens.
constexpr double kGrowth = 2.0;
constexpr double kLeastReached = 32.0;
constexpr double kReachedStays = 0.95;  // from one step with prompts to the next

constexpr double kNoise = 0.05;        // of a measured time, as a share of it
constexpr double kDrift = 0.01;        // of a cost from step to step, in units
constexpr double kMostSpread = 0.5;    // what one step may add: a hiccup is not the rule
constexpr double kSpreadShare = 0.02;  // of a step in the mean: some 50 steps

constexpr double kFirstSpread = 0.05;
constexpr double kNinetyNine = 2.33;  // deviations that 99 of 100 stay within
constexpr double kOver = 1.08;        // of the limit, which those may take: real tails are longer
constexpr double kLeastShare = 0.5;   // of the limit, that is aimed at however much times vary

}  // namespace

StepPace::StepPace(int64_t max_step_ms)
    : limit_(static_cast<double>(max_step_ms) * 1e-3), spread_(kFirstSpread * kFirstSpread) {
  if (limit_ <= 0.0) return;
  units_ = {limit_ * kFirstFixed, limit_ / kFirstTokens, limit_ / kFirstKeys, limit_ / kFirstTokens,
            limit_ / kFirstKeys};
  costs_[3] = units_[3];
  for (size_t i = 0; i < kCount; ++i) variance_[i][i] = 1.0;
}

StepCosts StepPace::costs() const {
  if (limit_ <= 0.0) return {};
  const double share = kOver / (1.0 + kNinetyNine * std::sqrt(spread_));
  return {.limit = limit_ * std::clamp(share, kLeastShare, 1.0),
          .fixed = costs_[0],
          .decode_token = costs_[1],
          .decode_key = costs_[2],
          .prompt_token = costs_[3],
          .prompt_key = costs_[4],
          .most_prompt_tokens = kGrowth * std::max(reached_, kLeastReached)};
}

// Of what times vary by, only what is above counts, and twice: as much where both sides are alike,
// and nothing where steps end sooner than was thought.
void StepPace::observe(const StepPlan& plan, double seconds, double delay) {
  if (limit_ <= 0.0 || plan.empty() || seconds <= 0.0) return;
  const double error = (seconds - predict(plan)) / seconds;
  const double above = std::clamp(error, 0.0, kMostSpread);
  spread_ += kSpreadShare * (2.0 * above * above - spread_);
  const StepWork work = plan.work();
  if (work.prompt_tokens > 0.0) {
    reached_ = std::max(work.prompt_tokens, kReachedStays * reached_);
  }
  correct({1.0, work.decode_tokens, work.decode_keys, work.prompt_tokens, work.prompt_keys},
          seconds, delay);
}

std::optional<StepVerdict> StepPace::judge(double seconds, double delay) const {
  if (limit_ <= 0.0) return std::nullopt;
  return StepVerdict{.over = seconds > kOverLimit * limit_,
                     .disturbed = delay > kDisturbedShare * seconds};
}

// The filter's step, in units: x = work * units, so that all costs are of the size of one.
void StepPace::correct(const Numbers& work, double seconds, double delay) {
  Numbers x{};
  Numbers covariance{};  // of the costs with the time that they predict
  double expected = 0.0;
  for (size_t i = 0; i < kCount; ++i) {
    x[i] = work[i] * units_[i];
    expected += work[i] * costs_[i];
    variance_[i][i] = std::min(1.0, variance_[i][i] + kDrift * kDrift);
  }
  for (size_t i = 0; i < kCount; ++i) {
    for (size_t j = 0; j < kCount; ++j) covariance[i] += variance_[i][j] * x[j];
  }
  double of_time = kNoise * kNoise * seconds * seconds + delay * delay;
  for (size_t i = 0; i < kCount; ++i) of_time += x[i] * covariance[i];
  // A step that took many times as long as any says that somebody took the core.
  const double error = std::min(seconds - expected, limit_ + expected);
  for (size_t i = 0; i < kCount; ++i) {
    costs_[i] += units_[i] * covariance[i] / of_time * error;
    for (size_t j = 0; j < kCount; ++j) {
      variance_[i][j] -= covariance[i] * covariance[j] / of_time;
    }
  }
  forbid_negative();
}

// Nothing costs less than nothing. A cost that would is set to 0, and those that it was found
// together with move along: what they predict together of the steps that were seen stays.
void StepPace::forbid_negative() {
  for (size_t i = 0; i < kCount; ++i) {
    if (costs_[i] >= 0.0) continue;
    const double by = -costs_[i] / (units_[i] * variance_[i][i]);
    for (size_t j = 0; j < kCount; ++j) costs_[j] += by * units_[j] * variance_[j][i];
  }
  for (double& cost : costs_) cost = std::max(0.0, cost);
}

}  // namespace tidemill
