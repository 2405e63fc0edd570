// Prompts and answers of the scheduler's unit tests.
#pragma once

#include <cstdint>
#include <numeric>
#include <vector>

#include "base/token_id.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"
#include "scheduler/step_plan.h"

namespace tidemill {

// first, first + 1, ...
inline std::vector<TokenId> prompt_of(int32_t length, TokenId first = 100) {
  std::vector<TokenId> tokens(static_cast<size_t>(length));
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

// That token for every row that asked.
inline StepResult answer(const StepPlan& plan, TokenId token = 7) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows > 0) {
      result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = token}}});
    }
  }
  return result;
}

// What stands at each position by token_at(position), as far as a row's drafts are that.
template <typename TokenAt>
StepResult answer_by(const Scheduler& scheduler, const StepPlan& plan, TokenAt&& token_at) {
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    if (row.num_score_rows == 0) continue;
    const Sequence& sequence = *scheduler.find(row.sequence);
    RowResult& of_row = result.rows.emplace_back();
    of_row.sequence = row.sequence;
    const int32_t first = row.first_position + row.num_tokens - row.num_choice_rows() + 1;
    for (size_t i = 0; i < static_cast<size_t>(row.num_choice_rows()); ++i) {
      const TokenId token = token_at(first + static_cast<int32_t>(i));
      of_row.accepted.push_back({.token = token});
      if (i < sequence.drafts.size() && sequence.drafts[i] != token) break;
    }
  }
  return result;
}

}  // namespace tidemill
