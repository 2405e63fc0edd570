// What one step computes, and what came of it. Flat values: they cross threads, and later
// processes. A plan is made by Scheduler::next_step, never edited, and answered by one StepResult.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "base/token_id.h"
#include "scheduler/step_costs.h"

namespace tidemill {

using SequenceId = int64_t;

// The tokens one sequence contributes to the step: positions first_position .. + num_tokens.
// Score rows are the last num_score_rows of them: 0 in the middle of a prefill, 1 at its end and in
// decode, 1 + drafts when speculating. Where a prompt's own log-probabilities are asked for, the
// first num_prompt_rows of the score rows choose nothing: each scores the prompt's token behind it.
struct PlanRow {
  SequenceId sequence = 0;
  int32_t first_position = 0;
  int32_t num_tokens = 0;
  int32_t num_score_rows = 0;
  int32_t num_prompt_rows = 0;

  // A decode, drafts included, or a last chunk of one token: what it computes is chosen from, all.
  bool is_decode() const { return num_tokens == num_choice_rows(); }
  // Of all its tokens together, of which each attends `window` at most; 0: all before it.
  int64_t num_keys(int64_t window) const;
  int32_t num_choice_rows() const { return num_score_rows - num_prompt_rows; }
  bool operator==(const PlanRow&) const = default;
};

// What a draft model computes before the step, for one of its rows: the tokens of the sequence from
// first_position on, which it has not seen yet, and then as many drafts, each behind the one
// before. Where there are none it only catches up.
struct DraftRow {
  SequenceId sequence = 0;
  int32_t first_position = 0;
  int32_t num_tokens = 0;  // at least one
  int32_t num_drafts = 0;
  bool operator==(const DraftRow&) const = default;
};

struct StepPlan {
  std::vector<PlanRow> rows;
  std::vector<DraftRow> draft_rows;  // in the order of their rows
  int64_t window = 0;  // as the scheduler's options have it: what its work is counted by
  bool empty() const { return rows.empty(); }
  void clear() {  // keeps its memory
    rows.clear();
    draft_rows.clear();
  }
  int64_t num_tokens() const;
  int64_t num_score_rows() const;
  int64_t num_model_drafts() const;
  StepWork work() const;
  bool operator==(const StepPlan&) const = default;
};

// One chosen token and, when asked for, its log-probabilities (natural log of the softmax of the
// unmodified logits).
struct TokenChoice {
  TokenId token = 0;
  float logprob = 0.0f;
  std::vector<std::pair<TokenId, float>> top;  // the best by log-probability, ties by lower id
  bool operator==(const TokenChoice&) const = default;
};

// What can happen to one row and leave its neighbours alone.
enum class RowFailure : uint8_t { kNotFinite, kOutOfMemory };

// For one plan row that asked for scores: one or more accepted tokens (none where it asked for no
// choice), or a failure of that row alone.
struct RowResult {
  SequenceId sequence = 0;
  std::vector<TokenChoice> accepted;
  std::optional<RowFailure> failure;
  std::vector<TokenChoice> prompt = {};  // the tokens behind its num_prompt_rows
  bool operator==(const RowResult&) const = default;
};

struct StepResult {
  std::vector<RowResult> rows;  // in the order of the plan's rows with num_score_rows > 0
  bool operator==(const StepResult&) const = default;
};

}  // namespace tidemill
