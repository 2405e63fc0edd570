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

}  // namespace tidemill
