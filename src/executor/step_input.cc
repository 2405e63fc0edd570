#include "executor/step_input.h"

#include <algorithm>

#include "executor/record_wire.h"
#include "executor/wire.h"

namespace tidemill {

// The members of each record, in the order of their bytes; found by wire.h where it needs them.
template <typename Visitor>
void visit_members(Visitor& visit, PlanRow& row) {
  visit(row.sequence);
  visit(row.first_position);
  visit(row.num_tokens);
  visit(row.num_score_rows);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepPlan& plan) {
  visit(plan.rows);
}

template <typename Visitor>
void visit_members(Visitor& visit, ForwardInput::Group& group) {
  visit(group.table_begins);
  visit(group.block_ids);
}

template <typename Visitor>
void visit_members(Visitor& visit, ForwardInput& input) {
  visit(input.token_ids);
  visit(input.positions);
  visit(input.groups);
  visit(input.score_rows);
}

template <typename Visitor>
void visit_members(Visitor& visit, SamplingRow& row) {
  visit(row.params);
  visit(row.choice);
  visit(row.position);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepInput& input) {
  visit(input.plan);
  visit(input.forward);
  visit(input.sampling);
  visit(input.forbidden_ids);
  visit(input.forbidden_begins);
}

template <typename Visitor>
void visit_members(Visitor& visit, RowResult& row) {
  visit(row.sequence);
  visit(row.accepted);
  visit(row.failure);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepResult& result) {
  visit(result.rows);
}

namespace {

// That forbidden() stays inside its arrays.
bool is_consistent(const StepInput& input) {
  const std::vector<int32_t>& begins = input.forbidden_begins;
  if (begins.empty()) return input.forbidden_ids.empty();
  return begins.size() == input.sampling.size() + 1 && begins.front() == 0 &&
         std::is_sorted(begins.begin(), begins.end()) &&
         static_cast<size_t>(begins.back()) == input.forbidden_ids.size();
}

}  // namespace

void StepInput::add_score_row(const SamplingRow& row, std::span<const TokenId> forbidden) {
  if (!forbidden.empty() && forbidden_begins.empty()) {
    forbidden_begins.assign(sampling.size() + 1, 0);  // the rows before forbid nothing
  }
  sampling.push_back(row);
  forbidden_ids.insert(forbidden_ids.end(), forbidden.begin(), forbidden.end());
  if (!forbidden_begins.empty()) {
    forbidden_begins.push_back(static_cast<int32_t>(forbidden_ids.size()));
  }
}

std::span<const TokenId> StepInput::forbidden(size_t score_row) const {
  if (forbidden_begins.empty()) return {};
  const auto begin = static_cast<size_t>(forbidden_begins[score_row]);
  const auto end = static_cast<size_t>(forbidden_begins[score_row + 1]);
  return std::span(forbidden_ids).subspan(begin, end - begin);
}

std::string to_bytes(const StepInput& input) { return wire::to_bytes(input); }
std::optional<StepInput> step_input_from_bytes(std::string_view bytes) {
  auto input = wire::from_bytes<StepInput>(bytes);
  if (input && !is_consistent(*input)) return std::nullopt;
  return input;
}
std::string to_bytes(const StepResult& result) { return wire::to_bytes(result); }
std::optional<StepResult> step_result_from_bytes(std::string_view bytes) {
  auto result = wire::from_bytes<StepResult>(bytes);
  if (!result) return std::nullopt;
  for (const RowResult& row : result->rows) {
    if (row.failure && *row.failure > RowFailure::kOutOfMemory) return std::nullopt;
  }
  return result;
}

}  // namespace tidemill
