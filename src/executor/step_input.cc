#include "executor/step_input.h"

#include "executor/sampling_wire.h"
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
  visit(row.forbid_end);
  visit(row.end_ids);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepInput& input) {
  visit(input.plan);
  visit(input.forward);
  visit(input.sampling);
}

template <typename Visitor>
void visit_members(Visitor& visit, TokenChoice& choice) {
  visit(choice.token);
  visit(choice.logprob);
  visit(choice.top);
}

template <typename Visitor>
void visit_members(Visitor& visit, RowResult& row) {
  visit(row.sequence);
  visit(row.accepted);
  visit(row.failed);
}

template <typename Visitor>
void visit_members(Visitor& visit, StepResult& result) {
  visit(result.rows);
}

std::string to_bytes(const StepInput& input) { return wire::to_bytes(input); }
std::optional<StepInput> step_input_from_bytes(std::string_view bytes) {
  return wire::from_bytes<StepInput>(bytes);
}
std::string to_bytes(const StepResult& result) { return wire::to_bytes(result); }
std::optional<StepResult> step_result_from_bytes(std::string_view bytes) {
  return wire::from_bytes<StepResult>(bytes);
}

}  // namespace tidemill
