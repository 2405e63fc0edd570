#include "scheduler/draft_costs.h"

namespace tidemill {
namespace {

// Drafts beyond what was measured: none are asked for but those from outside.
double of_tokens(StepGrowth growth, int32_t tokens) {
  return growth[std::min(static_cast<size_t>(tokens), growth.size()) - 1];
}

// What is taken for its chance at first weighs as much as so many drafts; later ones of so many.
constexpr int32_t kFirstDrafts = 16;
constexpr int32_t kLastDrafts = 32;
// Of one more token in a step, where nobody has measured.
constexpr double kAssumedGrowth = 1.0 / 16.0;

}  // namespace

void DraftChance::judge(int32_t num_right, int32_t num_drafts) {
  for (int32_t i = 0; i < std::min(num_right + 1, num_drafts); ++i) {
    const double right = i < num_right ? 1.0 : 0.0;
    ++num_judged_;
    chance_ += (right - chance_) / std::min(kFirstDrafts + num_judged_, kLastDrafts);
  }
  if (chance_ > kAtFirst) next_rest_ = kLeastRest;
}

// It begins again with a half of what it has shown.
void DraftChance::give_up() {
  chance_ = (chance_ + kAtFirst) / 2.0;
  num_judged_ = 0;
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
