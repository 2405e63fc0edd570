// A plan as flat arrays: everything one step needs, and nothing that points at requests. It crosses
// to the workers today, and to follower ranks and other processes later; to_bytes / from_bytes are
// that wire form.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "executor/row_lists.h"
#include "model/forward_input.h"
#include "sampling/sampler.h"
#include "scheduler/step_plan.h"

namespace tidemill {

struct StepInput {
  StepPlan plan;  // rows in the order of the token arrays
  ForwardInput forward;
  std::vector<SamplingRow> sampling;  // one per score row
  // What changes a score row's logits, as LogitChanges names it.
  RowLists<TokenId> allowed;
  RowLists<TokenId> forbidden;
  RowLists<TokenId> bias_ids;
  RowLists<float> bias;
  RowLists<TokenId> prompt;
  RowLists<TokenId> output;

  void clear();  // keeps its memory
  // Adds the next score row.
  void add_score_row(const SamplingRow& row, const LogitChanges& changes = {});
  LogitChanges changes(size_t score_row) const;
  bool operator==(const StepInput&) const = default;
};

std::string to_bytes(const StepInput& input);
std::optional<StepInput> step_input_from_bytes(std::string_view bytes);  // nullopt: malformed
std::string to_bytes(const StepResult& result);
std::optional<StepResult> step_result_from_bytes(std::string_view bytes);

}  // namespace tidemill
