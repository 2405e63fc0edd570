#include "executor/build_input.h"

#include "base/check.h"
#include "model/kv_cache.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

static_assert(kBlockTokens == kTokensPerBlock, "scheduler and kernels mean the same blocks");

// The table of one group, -1 where the window has passed; every token of the row begins there.
void append_table(const BlockTable& table, int32_t num_tokens, ForwardInput::Group& group) {
  const auto begin = static_cast<int32_t>(group.block_ids.size());
  for (const BlockRef& block : table) group.block_ids.push_back(block ? block.id() : -1);
  group.table_begins.insert(group.table_begins.end(), static_cast<size_t>(num_tokens), begin);
}

TokenId token_at(const Sequence& sequence, int32_t position) {
  const auto index = static_cast<size_t>(position);
  return index < sequence.tokens.size() ? sequence.tokens[index]
                                        : sequence.drafts[index - sequence.tokens.size()];
}

void append_row(const PlanRow& row, const Sequence& sequence, const SequenceSampling& sampling,
                StepInput& input) {
  ForwardInput& forward = input.forward;
  for (int32_t i = 0; i < row.num_tokens; ++i) {
    forward.token_ids.push_back(token_at(sequence, row.first_position + i));
    forward.positions.push_back(row.first_position + i);
  }
  for (size_t group = 0; group < forward.groups.size(); ++group) {
    append_table(sequence.block_tables[group], row.num_tokens, forward.groups[group]);
  }
  for (int32_t i = row.num_tokens - row.num_score_rows; i < row.num_tokens; ++i) {
    forward.score_rows.push_back(static_cast<int32_t>(forward.token_ids.size()) - row.num_tokens +
                                 i);
    const int32_t position = row.first_position + i + 1;  // of the token that is chosen
    const bool may_end = position - sequence.num_prompt_tokens >= sampling.min_new_tokens;
    input.add_score_row(
        {.params = sampling.params, .choice = sampling.choice, .position = position},
        may_end ? std::span<const TokenId>() : sampling.end_ids);
  }
}

}  // namespace

StepInput build_input(const StepPlan& plan, const Scheduler& scheduler,
                      const std::function<const SequenceSampling&(SequenceId)>& sampling_of) {
  StepInput input{.plan = plan};
  for (const PlanRow& row : plan.rows) {
    const Sequence* sequence = scheduler.find(row.sequence);
    CHECK(sequence != nullptr, "sequence {} is planned and unknown", row.sequence);
    input.forward.groups.resize(sequence->block_tables.size());
    append_row(row, *sequence, sampling_of(row.sequence), input);
  }
  return input;
}

}  // namespace tidemill
