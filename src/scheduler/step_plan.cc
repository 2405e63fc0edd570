#include "scheduler/step_plan.h"

#include <algorithm>

namespace tidemill {

// The token at position p attends p + 1 keys, until that is the window.
int64_t PlanRow::num_keys(int64_t window) const {
  const int64_t n =
      window == 0 ? num_tokens : std::clamp<int64_t>(window - first_position, 0, num_tokens);
  return n * first_position + n * (n + 1) / 2 + (num_tokens - n) * window;
}

int64_t StepPlan::num_tokens() const {
  int64_t sum = 0;
  for (const PlanRow& row : rows) sum += row.num_tokens;
  return sum;
}

int64_t StepPlan::num_score_rows() const {
  int64_t sum = 0;
  for (const PlanRow& row : rows) sum += row.num_score_rows;
  return sum;
}

int64_t StepPlan::num_model_drafts() const {
  int64_t sum = 0;
  for (const DraftRow& row : draft_rows) sum += row.num_drafts;
  return sum;
}

StepWork StepPlan::work() const {
  StepWork work;
  for (const PlanRow& row : rows) {
    const auto tokens = static_cast<double>(row.num_tokens);
    const auto keys = static_cast<double>(row.num_keys(window));
    (row.is_decode() ? work.decode_tokens : work.prompt_tokens) += tokens;
    (row.is_decode() ? work.decode_keys : work.prompt_keys) += keys;
  }
  return work;
}

}  // namespace tidemill
