#include "scheduler/draft_costs.h"

namespace tidemill {
namespace {

// Drafts beyond what was measured: none are asked for but those from outside.
double of_tokens(StepGrowth growth, int32_t tokens) {
  return growth[std::min(static_cast<size_t>(tokens), growth.size()) - 1];
}

constexpr double kWeightOfDraft = 1.0 / 32.0;
// Of one more token in a step, where nobody has measured.
constexpr double kAssumedGrowth = 1.0 / 16.0;

}  // namespace

void DraftChance::judge(int32_t num_right, int32_t num_drafts) {
  for (int32_t i = 0; i < num_right; ++i) chance_ += (1.0 - chance_) * kWeightOfDraft;
  if (num_right < num_drafts) chance_ -= chance_ * kWeightOfDraft;
  if (chance_ > kAtFirst) next_rest_ = kLeastRest;
}

void DraftChance::give_up() {
  chance_ = kAtFirst;
  left_ = next_rest_;
  next_rest_ = std::min(2 * next_rest_, kMostRest);
}

double growth_by_drafts(StepGrowth growth, int32_t num_decodes, int32_t num_drafts) {
  if (growth.empty() || num_decodes == 0) return 1.0;
  return of_tokens(growth, num_decodes + num_drafts) / of_tokens(growth, num_decodes);
}

DraftSpeed fastest_drafts(StepGrowth growth, int32_t num_decodes, double pass, double chance,
                          int32_t most) {
  constexpr double kLeastGain = 1.05;
  DraftSpeed fastest;
  double tokens = 1.0;  // of a step, in the mean
  double all_right = 1.0;
  for (int32_t drafts = 1; drafts <= most; ++drafts) {
    all_right *= chance;
    tokens += all_right;
    const double step = growth.empty()
                            ? 1.0 + kAssumedGrowth * num_decodes * drafts
                            : growth_by_drafts(growth, num_decodes, num_decodes * drafts);
    const double time = step + drafts * pass;
    const double speed = tokens / time;
    if (speed > std::max(kLeastGain, fastest.speed)) fastest = {.drafts = drafts, .speed = speed};
  }
  return fastest;
}

double catching_up(StepGrowth growth, double pass, int32_t num_tokens) {
  // Of one more token, among as many as are known.
  const double more = growth.size() > 1
                          ? (growth.back() - 1.0) / (static_cast<double>(growth.size()) - 1.0)
                          : kAssumedGrowth;
  return pass * (1.0 + more * (num_tokens - 1));
}

int32_t affordable_drafts(StepGrowth growth, int32_t num_decodes, double most_growth,
                          double least_chance) {
  if (num_decodes == 0) return 0;
  for (auto drafts = static_cast<int32_t>(growth.size()) - num_decodes; drafts > 0; --drafts) {
    const double factor = growth_by_drafts(growth, num_decodes, drafts);
    const double lost_tokens = (factor - 1.0) * num_decodes;
    if (factor <= most_growth && lost_tokens <= least_chance * drafts) return drafts;
  }
  return 0;
}

}  // namespace tidemill
