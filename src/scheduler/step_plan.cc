#include "scheduler/step_plan.h"

namespace tidemill {

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

StepWork StepPlan::work() const {
  StepWork work;
  for (const PlanRow& row : rows) {
    const auto tokens = static_cast<double>(row.num_tokens);
    const auto keys = static_cast<double>(row.num_keys());
    (row.is_decode() ? work.decode_tokens : work.prompt_tokens) += tokens;
    (row.is_decode() ? work.decode_keys : work.prompt_keys) += keys;
  }
  return work;
}

}  // namespace tidemill
