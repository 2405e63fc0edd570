#include "executor/step_input.h"

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
  visit(row.num_prompt_rows);
}

template <typename Visitor>
void visit_members(Visitor& visit, DraftRow& row) {
  visit(row.sequence);
  visit(row.first_position);
  visit(row.num_tokens);
  visit(row.num_drafts);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepPlan& plan) {
  visit(plan.rows);
  visit(plan.draft_rows);
  visit(plan.window);
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
  visit(row.scored);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepInput& input) {
  visit(input.plan);
  visit(input.forward);
  visit(input.sampling);
  visit(input.allowed);
  visit(input.forbidden);
  visit(input.bias_ids);
  visit(input.bias);
  visit(input.prompt);
  visit(input.output);
}

template <typename Visitor>
void visit_members(Visitor& visit, RowResult& row) {
  visit(row.sequence);
  visit(row.accepted);
  visit(row.failure);
  visit(row.prompt);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepResult& result) {
  visit(result.rows);
}

namespace {

// That changes() stays inside its arrays.
bool is_consistent(const StepInput& input) {
  const size_t rows = input.sampling.size();
  for (const RowLists<TokenId>* lists :
       {&input.allowed, &input.forbidden, &input.bias_ids, &input.prompt, &input.output}) {
    if (!lists->is_consistent(rows)) return false;
  }
  return input.bias.is_consistent(rows) && input.bias.begins == input.bias_ids.begins;
}

}  // namespace

void StepInput::clear() {
  plan.clear();
  forward.clear();
  sampling.clear();
  for (RowLists<TokenId>* lists : {&allowed, &forbidden, &bias_ids, &prompt, &output}) {
    lists->clear();
  }
  bias.clear();
}

void StepInput::add_score_row(const SamplingRow& row, const LogitChanges& changes) {
  const size_t index = sampling.size();
  sampling.push_back(row);
  allowed.add(index, changes.allowed);
  forbidden.add(index, changes.forbidden);
  bias_ids.add(index, changes.bias_ids);
  bias.add(index, changes.bias);
  prompt.add(index, changes.prompt);
  output.add(index, changes.output);
}

LogitChanges StepInput::changes(size_t score_row) const {
  return {.allowed = allowed.of(score_row),
          .forbidden = forbidden.of(score_row),
          .bias_ids = bias_ids.of(score_row),
          .bias = bias.of(score_row),
          .prompt = prompt.of(score_row),
          .output = output.of(score_row)};
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
