// The invariants of robustness: what must hold between any two calls.
#include <algorithm>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace tidemill {
namespace {

void check_sizes(const Scheduler::State& state) {
  CHECK(state.running.size() + state.waiting.size() == state.entries.size(),
        "{} running and {} waiting of {}", state.running.size(), state.waiting.size(),
        state.entries.size());
  for (const auto& pool : state.pools) {
    CHECK(pool->num_free() >= 0 && pool->num_free() <= pool->num_blocks(), "{} free blocks of {}",
          pool->num_free(), pool->num_blocks());
  }
}

// I9: in exactly one list, in its order.
void check_lists(const Scheduler::State& state) {
  check_sizes(state);
  for (size_t i = 0; i < state.running.size(); ++i) {
    const Entry& entry = *state.running[i];
    CHECK(entry.running, "sequence {} runs and does not know it", entry.sequence.id);
    CHECK(i == 0 || state.running[i - 1]->arrival < entry.arrival,
          "sequence {} runs before an older one", entry.sequence.id);
  }
  for (size_t i = 0; i < state.waiting.size(); ++i) {
    const Entry& entry = *state.waiting[i];
    CHECK(!entry.running, "sequence {} waits and does not know it", entry.sequence.id);
    if (i == 0) continue;
    const Entry& before = *state.waiting[i - 1];
    CHECK(goes_before(before, entry), "sequence {} waits behind {}", entry.sequence.id,
          before.sequence.id);
  }
}

// I3, I5 and I12 of one sequence.
void check_sequence(const Scheduler::State& state, const Entry& entry) {
  const Sequence& sequence = entry.sequence;
  CHECK(sequence.num_cached_tokens < static_cast<int32_t>(sequence.tokens.size()),
        "sequence {} has nothing left to compute", sequence.id);
  CHECK(sequence.num_preemptions <= state.options.max_preemptions,
        "sequence {} was preempted {} times", sequence.id, sequence.num_preemptions);
  for (size_t group = 0; group < state.pools.size(); ++group) {
    const BlockTable& table = sequence.block_tables[group];
    const int64_t window = state.options.groups[group].window;
    const int64_t first_seen = window == 0 ? 0 : sequence.num_cached_tokens - window + 1;
    CHECK(entry.running || table.empty(), "sequence {} waits and holds blocks", sequence.id);
    CHECK(static_cast<int64_t>(table.size()) * kBlockTokens >= sequence.num_cached_tokens,
          "sequence {} has {} tokens in {} blocks", sequence.id, sequence.num_cached_tokens,
          table.size());
    for (size_t i = 0; i < table.size(); ++i) {
      const auto end = static_cast<int64_t>(i + 1) * kBlockTokens;
      CHECK(table[i] || end <= first_seen, "sequence {} lost block {}, which it can see",
            sequence.id, i);
      CHECK(end <= sequence.num_cached_tokens || state.pools[group]->holders(table[i].id()) == 1,
            "sequence {} would write into shared block {}", sequence.id, table[i].id());
    }
  }
}

// I1 and I2: holders are sequences and the prefix cache, and nobody else.
void check_holders(const Scheduler::State& state, size_t group) {
  const BlockPool& pool = *state.pools[group];
  std::vector<int32_t> holders = state.prefix_cache.holders(pool, group);
  for (const auto& [id, entry] : state.entries) {
    for (const BlockRef& block : entry->sequence.block_tables[group]) {
      if (block) ++holders[static_cast<size_t>(block.id())];
    }
  }
  int64_t free = 0;
  for (int32_t id = 0; id < pool.num_blocks(); ++id) {
    CHECK(pool.holders(id) == holders[static_cast<size_t>(id)], "block {} counts {} holders of {}",
          id, pool.holders(id), holders[static_cast<size_t>(id)]);
    free += pool.holders(id) == 0;
  }
  CHECK(free == pool.num_free(), "{} free blocks, {} counted", free, pool.num_free());
}

// I8, and that what is planned has its blocks.
void check_plan(const Scheduler::State& state) {
  const StepPlan& plan = state.in_flight;
  CHECK(plan.rows.size() <= static_cast<size_t>(state.options.max_sequences), "{} rows",
        plan.rows.size());
  CHECK(plan.num_tokens() <= state.options.max_step_tokens, "{} tokens", plan.num_tokens());
  CHECK(plan.num_score_rows() <= state.options.max_score_rows(), "{} score rows",
        plan.num_score_rows());
  for (const PlanRow& row : plan.rows) {
    const auto found = state.entries.find(row.sequence);
    if (found == state.entries.end()) continue;  // cancelled while the step runs
    const Sequence& sequence = found->second->sequence;
    CHECK(row.first_position == sequence.num_cached_tokens && row.num_tokens > 0,
          "sequence {} is planned at {}", row.sequence, row.first_position);
    for (const BlockTable& table : sequence.block_tables) {
      CHECK(
          row.first_position + row.num_tokens <= static_cast<int64_t>(table.size()) * kBlockTokens,
          "sequence {} would write behind its blocks", row.sequence);
    }
  }
}

// That the draft model has what it goes on behind, room for what it writes, and no part in a block
// that another one of its rows writes.
void check_draft_rows(const Scheduler::State& state) {
  const StepPlan& plan = state.in_flight;
  int64_t num_tokens = 0;
  std::vector<int32_t> written;
  auto row = plan.rows.begin();
  for (const DraftRow& draft : plan.draft_rows) {
    row = std::find_if(row, plan.rows.end(),
                       [&](const PlanRow& of) { return of.sequence == draft.sequence; });
    CHECK(row != plan.rows.end(), "sequence {} drafts out of order", draft.sequence);
    num_tokens += draft.num_tokens;
    const auto found = state.entries.find(draft.sequence);
    if (found == state.entries.end()) continue;  // cancelled while the step runs
    const Sequence& sequence = found->second->sequence;
    const BlockTable& table = sequence.block_tables[0];
    const int32_t end = draft.first_position + draft.num_tokens;
    CHECK(draft.num_tokens > 0 && draft.first_position <= sequence.num_cached_tokens &&
              draft.first_position == state.draft_cover->leading(table, sequence.num_cached_tokens),
          "the draft model of sequence {} begins at {}", sequence.id, draft.first_position);
    const auto size = static_cast<int32_t>(sequence.tokens.size());
    CHECK(draft.num_drafts == 0 ? end <= size
                                : end == size && row->num_tokens == 1 + draft.num_drafts,
          "the draft model of sequence {} has {} drafts behind {} of {} tokens", sequence.id,
          draft.num_drafts, end, size);
    const int32_t last = end + std::max(0, draft.num_drafts - 1);
    CHECK(last <= static_cast<int64_t>(table.size()) * kBlockTokens &&
              (draft.num_drafts == 0 || last <= state.options.draft_model_len),
          "the draft model of sequence {} would write up to {}", sequence.id, last);
    for (int32_t at = draft.first_position / kBlockTokens; at * kBlockTokens < last; ++at) {
      written.push_back(table[static_cast<size_t>(at)].id());
    }
  }
  CHECK(num_tokens <= state.options.max_step_tokens, "the draft model has {} tokens", num_tokens);
  std::sort(written.begin(), written.end());
  CHECK(std::adjacent_find(written.begin(), written.end()) == written.end(),
        "two rows of the draft model write one block");
}

}  // namespace

void Scheduler::check_invariants() const {
  check_lists(*state_);
  check_plan(*state_);
  check_draft_rows(*state_);
  for (const auto& [id, entry] : state_->entries) check_sequence(*state_, *entry);
  for (size_t group = 0; group < state_->pools.size(); ++group) check_holders(*state_, group);
  state_->prefix_cache.check(state_->pool_list);
}

void Scheduler::check_invariants_of(const StepPlan& plan) const {
  check_sizes(*state_);
  check_plan(*state_);
  check_draft_rows(*state_);
  for (const PlanRow& row : plan.rows) {
    if (const Entry* entry = state_->find(row.sequence)) check_sequence(*state_, *entry);
  }
}

}  // namespace tidemill
