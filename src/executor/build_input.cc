#include "executor/build_input.h"

#include <algorithm>

#include "base/check.h"
#include "model/kv_cache.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

static_assert(kBlockTokens == kTokensPerBlock, "scheduler and kernels mean the same blocks");
static_assert(kBlocksPerBundle == kBundleBlocks, "and the same bundles of them");

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

bool ends_in(std::span<const TokenId> tokens, std::span<const TokenId> tail) {
  return tokens.size() >= tail.size() &&
         std::equal(tail.begin(), tail.end(),
                    tokens.end() - static_cast<std::ptrdiff_t>(tail.size()));
}

// What may not follow `generated`, which is looked at for bad words only.
std::vector<TokenId> forbidden_behind(int32_t num_generated, std::span<const TokenId> generated,
                                      const SequenceSampling& sampling) {
  std::vector<TokenId> forbidden;
  if (num_generated < sampling.min_new_tokens) forbidden = sampling.end_ids;
  for (const std::vector<TokenId>& word : sampling.bad_words) {
    if (ends_in(generated, std::span(word).first(word.size() - 1))) {
      forbidden.push_back(word.back());
    }
  }
  return forbidden;
}

// The score rows of a prompt's own tokens: each scores the one behind it.
void append_prompt_scores(const PlanRow& row, const Sequence& sequence,
                          const SequenceSampling& sampling, StepInput& input) {
  const SamplingParams params{.num_logprobs = sampling.num_prompt_logprobs};
  const int32_t first = row.first_position + row.num_tokens - row.num_score_rows;
  for (int32_t position = first + 1; position <= first + row.num_prompt_rows; ++position) {
    input.add_score_row({.params = params,
                         .position = position,
                         .scored = sequence.tokens[static_cast<size_t>(position)]});
  }
}

// The score rows that choose a token. Drafts count as generated for the rows behind them: a row's
// choice is the one that it would be had they been accepted before.
void append_choices(const PlanRow& row, const Sequence& sequence, const SequenceSampling& sampling,
                    StepInput& input) {
  const SamplingParams& params = sampling.params;
  const std::span<const TokenId> tokens(sequence.tokens);
  const auto num_prompt = static_cast<size_t>(sequence.num_prompt_tokens);
  std::vector<TokenId> generated;  // only for whoever looks at it
  if (params.penalises_output() || !sampling.bad_words.empty()) {
    generated.assign(sequence.tokens.begin() + sequence.num_prompt_tokens, sequence.tokens.end());
    generated.insert(generated.end(), sequence.drafts.begin(), sequence.drafts.end());
  }
  for (int32_t i = row.num_tokens - row.num_choice_rows(); i < row.num_tokens; ++i) {
    const int32_t position = row.first_position + i + 1;  // of the token that is chosen
    const int32_t num_generated = position - sequence.num_prompt_tokens;
    const auto before = std::span<const TokenId>(generated).first(
        std::min(generated.size(), static_cast<size_t>(num_generated)));
    const std::vector<TokenId> forbidden = forbidden_behind(num_generated, before, sampling);
    LogitChanges changes{.allowed = sampling.allowed_ids,
                         .forbidden = forbidden,
                         .bias_ids = sampling.bias_ids,
                         .bias = sampling.bias};
    if (params.penalises_prompt()) changes.prompt = tokens.first(num_prompt);
    if (params.penalises_output()) changes.output = before;
    input.add_score_row({.params = params, .choice = sampling.choice, .position = position},
                        changes);
  }
}

void append_row(const PlanRow& row, const Sequence& sequence, const SequenceSampling& sampling,
                StepInput& input) {
  ForwardInput& forward = input.forward;
  const auto begin = static_cast<int32_t>(forward.token_ids.size());
  for (int32_t i = 0; i < row.num_tokens; ++i) {
    forward.token_ids.push_back(token_at(sequence, row.first_position + i));
    forward.positions.push_back(row.first_position + i);
  }
  for (size_t group = 0; group < forward.groups.size(); ++group) {
    append_table(sequence.block_tables[group], row.num_tokens, forward.groups[group]);
  }
  for (int32_t i = row.num_tokens - row.num_score_rows; i < row.num_tokens; ++i) {
    forward.score_rows.push_back(begin + i);
  }
  append_prompt_scores(row, sequence, sampling, input);
  append_choices(row, sequence, sampling, input);
}

// Drafts nobody hears of: without log-probabilities, and without what needs the text before them.
SamplingParams for_drafts(SamplingParams params) {
  params.num_logprobs = -1;
  params.repetition_penalty = 1.0f;
  params.frequency_penalty = params.presence_penalty = 0.0f;
  return params;
}

void append_draft_row(const DraftRow& row, const Sequence& sequence,
                      const SequenceSampling& sampling, DraftInput& input) {
  ForwardInput& forward = input.forward;
  const auto begin = static_cast<int32_t>(forward.token_ids.size());
  const int32_t end = row.first_position + row.num_tokens;
  for (int32_t position = row.first_position; position < end; ++position) {
    forward.token_ids.push_back(sequence.tokens[static_cast<size_t>(position)]);
    forward.positions.push_back(position);
  }
  for (size_t group = 0; group < forward.groups.size(); ++group) {
    append_table(sequence.block_tables[group], row.num_tokens, forward.groups[group]);
  }
  if (row.num_drafts > 0) forward.score_rows.push_back(begin + row.num_tokens - 1);
  input.allowed.add(input.rows.size(), sampling.allowed_ids);
  input.bias_ids.add(input.rows.size(), sampling.bias_ids);
  input.bias.add(input.rows.size(), sampling.bias);
  DraftInput::Row& of = input.rows.emplace_back();
  of.sequence = row.sequence;
  of.first_token = begin;
  of.num_drafts = row.num_drafts;
  of.sampling.params = for_drafts(sampling.params);
  of.sampling.choice = sampling.choice;
  of.sampling.position = end;
}

}  // namespace

void build_draft_input(const StepPlan& plan, const Scheduler& scheduler,
                       const std::function<const SequenceSampling&(SequenceId)>& sampling_of,
                       DraftInput& input) {
  input.clear();
  for (const DraftRow& row : plan.draft_rows) {
    const Sequence* sequence = scheduler.find(row.sequence);
    CHECK(sequence != nullptr, "sequence {} drafts and is unknown", row.sequence);
    input.forward.groups.resize(sequence->block_tables.size());
    append_draft_row(row, *sequence, sampling_of(row.sequence), input);
  }
}

void build_input(const StepPlan& plan, const Scheduler& scheduler,
                 const std::function<const SequenceSampling&(SequenceId)>& sampling_of,
                 StepInput& input) {
  input.clear();
  input.plan = plan;
  for (const PlanRow& row : plan.rows) {
    const Sequence* sequence = scheduler.find(row.sequence);
    CHECK(sequence != nullptr, "sequence {} is planned and unknown", row.sequence);
    input.forward.groups.resize(sequence->block_tables.size());
    append_row(row, *sequence, sampling_of(row.sequence), input);
  }
}

}  // namespace tidemill
