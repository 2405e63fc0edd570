// A plan as flat arrays: everything one step needs, and nothing that points at requests. It crosses
// to the workers today, and to follower ranks and other processes later; to_bytes / from_bytes are
// that wire form.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/forward_input.h"
#include "sampling/sampler.h"
#include "scheduler/step_plan.h"

namespace tidemill {

struct StepInput {
  StepPlan plan;  // rows in the order of the token arrays
  ForwardInput forward;
  std::vector<SamplingRow> sampling;  // one per score row
  // Ids that score row i may not choose: forbidden_ids from forbidden_begins[i] up to
  // forbidden_begins[i + 1]. Both are empty in a step in which nothing is forbidden.
  std::vector<TokenId> forbidden_ids;
  std::vector<int32_t> forbidden_begins;

  // Adds the next score row.
  void add_score_row(const SamplingRow& row, std::span<const TokenId> forbidden);
  std::span<const TokenId> forbidden(size_t score_row) const;
  bool operator==(const StepInput&) const = default;
};

std::string to_bytes(const StepInput& input);
std::optional<StepInput> step_input_from_bytes(std::string_view bytes);  // nullopt: malformed
std::string to_bytes(const StepResult& result);
std::optional<StepResult> step_result_from_bytes(std::string_view bytes);

}  // namespace tidemill
