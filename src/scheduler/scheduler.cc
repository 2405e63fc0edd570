#include "scheduler/scheduler.h"

#include <algorithm>
#include <new>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace tidemill {
namespace {

uint8_t bit_of(PauseReason reason) {
  return static_cast<uint8_t>(1u << static_cast<unsigned>(reason));
}

// Grows as push_back() would.
template <typename Item>
void reserve_amply(std::vector<Item>& items, size_t size) {
  if (size > items.capacity()) items.reserve(std::max(size, 2 * items.capacity()));
}

}  // namespace

Scheduler::State::State(const SchedulerOptions& scheduler_options)
    : options(scheduler_options),
      prefix_cache(options.block_hash != nullptr ? options.block_hash : &hash_of_block) {
  CHECK(options.max_step_tokens > 0 && options.max_sequences > 0, "limits of {} and {}",
        options.max_step_tokens, options.max_sequences);
  for (const KvGroupOptions& group : options.groups) {
    pools.push_back(std::make_unique<BlockPool>(group.num_blocks));
    pool_list.push_back(pools.back().get());
  }
  if (options.draft_model_cost > 0.0) {
    CHECK(std::all_of(options.groups.begin(), options.groups.end(),
                      [](const KvGroupOptions& group) { return group.window == 0; }),
          "a draft model needs every block, and a window drops some");
    draft_cover.emplace(options.groups.front().num_blocks);
  }
}

Entry* Scheduler::State::find(SequenceId id) {
  const auto found = entries.find(id);
  return found == entries.end() ? nullptr : found->second.get();
}

void Scheduler::State::make_room_for_one_more() {
  for (std::vector<Entry*>* list : {&waiting, &running, &visited}) {
    reserve_amply(*list, entries.size() + 1);
  }
}

void Scheduler::State::make_room_for_tokens(Entry& entry, int32_t num_tokens) {
  std::vector<TokenId>& tokens = entry.sequence.tokens;
  reserve_amply(tokens, tokens.size() + static_cast<size_t>(num_tokens));
}

void Scheduler::State::release(Entry& entry) {
  for (BlockTable& table : entry.sequence.block_tables) table.clear();
  entry.sequence.num_cached_tokens = 0;
  entry.sequence.drafts.clear();
  entry.awaits_drafts = false;
  entry.num_published_blocks = 0;
  entry.last_published = PrefixCache::kRoot;
  entry.may_publish = true;
}

void Scheduler::State::remove(Entry& entry) {
  if (entry.running) {
    std::erase(running, &entry);
  } else {
    std::erase(waiting, &entry);
  }
  entries.erase(entry.sequence.id);
}

void Scheduler::State::wait(Entry& entry) {
  const auto place = std::find_if(waiting.rbegin(), waiting.rend(),
                                  [&](const Entry* other) { return goes_before(*other, entry); });
  waiting.insert(place.base(), &entry);
}

// Records a token; an end if it is one.
std::optional<SequenceEnd> Scheduler::State::append(Entry& entry, TokenId token) {
  Sequence& sequence = entry.sequence;
  const bool may_end = sequence.num_new_tokens() >= entry.request.min_new_tokens;
  const auto holds = [token](const std::vector<TokenId>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  sequence.tokens.push_back(token);
  if (may_end && holds(entry.request.end_ids)) {
    return SequenceEnd{.id = sequence.id, .reason = EndReason::kEndToken};
  }
  if (may_end && holds(entry.request.stop_ids)) {
    return SequenceEnd{.id = sequence.id, .reason = EndReason::kStopToken, .stop_id = token};
  }
  if (sequence.num_new_tokens() >= entry.request.max_new_tokens) {
    return SequenceEnd{.id = sequence.id, .reason = EndReason::kLength};
  }
  return std::nullopt;
}

// Offers the blocks that have become full to the prefix cache, and takes those it has already. What
// is computed does not depend on it: without memory for a block, this and those behind it stay
// unknown.
void Scheduler::State::publish_blocks(Entry& entry) {
  Sequence& sequence = entry.sequence;
  const auto at = [&](size_t group) -> BlockRef& {
    return sequence.block_tables[group][static_cast<size_t>(entry.num_published_blocks)];
  };
  const int32_t full = sequence.num_cached_tokens / kBlockTokens;
  if (!options.prefix_cache || !entry.may_publish || entry.num_published_blocks >= full) return;
  for (; entry.num_published_blocks < full; ++entry.num_published_blocks) {
    PrefixCache::GroupBlocks blocks;
    for (size_t group = 0; group < pools.size(); ++group) blocks.push_back(at(group).share());
    const auto begin = static_cast<size_t>(entry.num_published_blocks) * kBlockTokens;
    PrefixCache::Inserted inserted = prefix_cache.insert(
        entry.request.prefix_scope, entry.last_published,
        std::span(sequence.tokens).subspan(begin, kBlockTokens), std::move(blocks));
    entry.last_published = inserted.node;
    for (size_t group = 0; group < inserted.known.size(); ++group) {
      at(group) = std::move(inserted.known[group]);
    }
  }
  prefix_cache.touch(entry.last_published);
}

void Scheduler::State::free_outside_window(Entry& entry) {
  for (size_t group = 0; group < pools.size(); ++group) {
    const int64_t window = options.groups[group].window;
    if (window == 0) continue;
    // The next query sits at num_cached_tokens and sees `window` keys, itself included.
    const int64_t first_seen = entry.sequence.num_cached_tokens - window + 1;
    BlockTable& table = entry.sequence.block_tables[group];
    // From the last one backwards: those before one that is empty are, too.
    for (int64_t i = first_seen / kBlockTokens - 1; i >= 0 && table[static_cast<size_t>(i)]; --i) {
      BlockRef dropped = std::move(table[static_cast<size_t>(i)]);
    }
  }
}

void Scheduler::State::accept(Entry& entry, const PlanRow& row, int32_t num_model_drafts,
                              const RowResult& result) {
  Sequence& sequence = entry.sequence;
  const auto accepted = static_cast<int32_t>(result.accepted.size());
  CHECK(accepted >= 1 && accepted <= row.num_choice_rows(), "{} tokens for {} score rows", accepted,
        row.num_choice_rows());
  // Keys of refused drafts are behind this, and will be written over.
  sequence.num_cached_tokens =
      row.first_position + row.num_tokens - row.num_choice_rows() + accepted;
  if (entry.request.max_new_tokens == 0) {  // its prompt is scored, and that was all
    recorded.ends.push_back({.id = sequence.id, .reason = EndReason::kLength});
    recorded.num_tokens.push_back(0);
    return;
  }
  const size_t before = sequence.tokens.size();
  for (const TokenChoice& choice : result.accepted) {
    if (const auto end = append(entry, choice.token)) {
      recorded.ends.push_back(*end);
      break;
    }
  }
  recorded.num_tokens.push_back(static_cast<int32_t>(sequence.tokens.size() - before));
  if (row.num_choice_rows() > 1) {
    ++totals.draft_rows;
    totals.draft_tokens += row.num_choice_rows() - 1;
    const int32_t num_right = recorded.num_tokens.back() - 1;
    totals.accepted_draft_tokens += num_right;
    if (num_model_drafts > 0) {
      entry.draft_chance.judge(accepted - 1, num_model_drafts);
    } else {
      entry.draft_account.earn(num_right);
    }
  }
  // Behind an end, accepted tokens have keys and are dropped all the same.
  sequence.num_cached_tokens =
      std::min(sequence.num_cached_tokens, static_cast<int32_t>(sequence.tokens.size()));
}

void Scheduler::State::advance(Entry& entry, const PlanRow& row, const DraftRow* draft,
                               const RowResult* result) {
  Sequence& sequence = entry.sequence;
  const int32_t end = row.first_position + row.num_tokens;
  if (draft_cover) draft_cover->forget(sequence.block_tables[0], row.first_position, end);
  if (draft != nullptr) {
    // Of its last draft it has computed nothing.
    draft_cover->add(
        sequence.block_tables[0], draft->first_position,
        draft->first_position + draft->num_tokens + std::max(0, draft->num_drafts - 1));
  }
  if (result != nullptr && result->failure) {
    recorded.ends.push_back({.id = sequence.id, .reason = EndReason::kFailed});
    recorded.num_tokens.push_back(0);
  } else if (row.num_choice_rows() > 0) {
    accept(entry, row, draft != nullptr ? draft->num_drafts : 0, *result);
  } else {
    sequence.num_cached_tokens = row.first_position + row.num_tokens;
    if (result != nullptr) recorded.num_tokens.push_back(0);
  }
  if (row.num_prompt_rows > 0) {
    entry.num_scored_tokens = row.first_position + row.num_tokens - row.num_choice_rows();
  }
  sequence.drafts.clear();
  // What was drafted and refused.
  if (draft_cover && sequence.num_cached_tokens < end) {
    draft_cover->forget(sequence.block_tables[0], sequence.num_cached_tokens, end);
  }
  try {
    publish_blocks(entry);
  } catch (const std::bad_alloc&) {
    entry.may_publish = false;
  }
  free_outside_window(entry);
}

Scheduler::Scheduler(const SchedulerOptions& options) : state_(std::make_unique<State>(options)) {}
Scheduler::~Scheduler() = default;

void Scheduler::add(NewSequence request) {
  CHECK(!request.prompt.empty() && (request.max_new_tokens > 0 || request.score_prompt),
        "sequence {} has nothing to do", request.id);
  state_->make_room_for_one_more();
  auto entry = std::make_unique<Entry>();
  Sequence& sequence = entry->sequence;
  sequence.id = request.id;
  sequence.tokens = std::move(request.prompt);
  sequence.num_prompt_tokens = static_cast<int32_t>(sequence.tokens.size());
  sequence.block_tables.resize(state_->pools.size());
  CHECK(fits(sequence.num_prompt_tokens + request.max_new_tokens),
        "sequence {} of {} tokens can never fit the pool", sequence.id,
        sequence.num_prompt_tokens + request.max_new_tokens);
  entry->request = std::move(request);
  entry->arrival = state_->num_arrivals++;
  // Owned before it is listed: whatever throws in between, cancel() undoes it.
  const auto [added, is_new] = state_->entries.emplace(sequence.id, std::move(entry));
  CHECK(is_new, "sequence {} is there already", added->first);
  state_->wait(*added->second);
  state_->totals.prefix_queried_tokens += sequence.num_prompt_tokens;
}

bool Scheduler::fits(int64_t num_tokens) const {
  return std::all_of(state_->pools.begin(), state_->pools.end(), [&](const auto& pool) {
    return blocks_for(num_tokens) <= pool->num_blocks();
  });
}

void Scheduler::cancel(SequenceId id) {
  if (Entry* entry = state_->find(id)) state_->remove(*entry);
}

void Scheduler::pause(SequenceId id, PauseReason reason) {
  if (Entry* entry = state_->find(id)) entry->pause_reasons |= bit_of(reason);
}

void Scheduler::resume(SequenceId id, PauseReason reason) {
  if (Entry* entry = state_->find(id))
    entry->pause_reasons &= static_cast<uint8_t>(~bit_of(reason));
}

void Scheduler::propose(SequenceId id, std::vector<TokenId> drafts) {
  if (Entry* entry = state_->find(id)) entry->sequence.drafts = std::move(drafts);
}

const StepPlan& Scheduler::next_step(const StepCosts& costs) {
  state_->costs = costs;
  CHECK(state_->in_flight.empty(), "the plan before was not answered");
  state_->in_flight = state_->plan_step();
  return state_->in_flight;
}

void Scheduler::supply_drafts(std::span<const TokenId> drafts) {
  for (const DraftRow& row : state_->in_flight.draft_rows) {
    Entry& entry = *state_->find(row.sequence);
    std::vector<TokenId>& of = entry.sequence.drafts;
    const auto count = static_cast<size_t>(row.num_drafts);
    CHECK(drafts.size() >= count && (count == 0 || of.size() == count),
          "{} drafts for sequence {}, which has asked for {}", drafts.size(), row.sequence, count);
    if (count > 0) std::copy_n(drafts.begin(), count, of.begin());
    entry.awaits_drafts = false;
    drafts = drafts.subspan(count);
  }
  CHECK(drafts.empty(), "{} drafts for nobody", drafts.size());
}

// Whether the draft model has answered is not known.
void Scheduler::drop_plan() {
  for (const DraftRow& row : state_->in_flight.draft_rows) {
    if (Entry* entry = state_->find(row.sequence)) entry->sequence.drafts.clear();
  }
  state_->in_flight.clear();
}

const Recorded& Scheduler::commit(const StepResult& result) {
  Recorded& recorded = state_->recorded;
  recorded.ends.clear();
  recorded.num_tokens.clear();
  recorded.ends.reserve(result.rows.size());
  recorded.num_tokens.reserve(result.rows.size());
  size_t next = 0;
  const StepPlan& plan = state_->in_flight;
  auto next_draft = plan.draft_rows.begin();
  for (const PlanRow& row : plan.rows) {
    const bool drafts = next_draft != plan.draft_rows.end() && next_draft->sequence == row.sequence;
    const DraftRow* draft = drafts ? &*next_draft++ : nullptr;
    const RowResult* of_row = nullptr;
    if (row.num_score_rows > 0) {
      CHECK(next < result.rows.size() && result.rows[next].sequence == row.sequence,
            "result {} is not that of sequence {}", next, row.sequence);
      of_row = &result.rows[next++];
    }
    Entry* entry = state_->find(row.sequence);
    if (entry == nullptr) {  // cancelled while the step ran
      if (of_row != nullptr) recorded.num_tokens.push_back(0);
      continue;
    }
    if (row.first_position == entry->sequence.num_prefix_hit_tokens &&
        entry->sequence.num_preemptions == 0) {
      state_->totals.prefix_hit_tokens += entry->sequence.num_prefix_hit_tokens;
    }
    state_->advance(*entry, row, draft, of_row);
  }
  CHECK(next == result.rows.size(), "{} results for {} rows", result.rows.size(), next);
  for (const SequenceEnd& end : recorded.ends) state_->remove(*state_->find(end.id));
  state_->in_flight.clear();
  return recorded;
}

int64_t Scheduler::drop_cached(int64_t most) {
  int64_t dropped = 0;
  while (dropped < most && state_->prefix_cache.evict_one(state_->pool_list)) ++dropped;
  return dropped;
}

const Sequence* Scheduler::find(SequenceId id) const {
  const Entry* entry = state_->find(id);
  return entry == nullptr ? nullptr : &entry->sequence;
}

int64_t Scheduler::used_blocks() const {
  int64_t used = 0;
  for (const BlockPool* pool : state_->pool_list) used = std::max<int64_t>(used, pool->num_used());
  return used;
}

SchedulerCounts Scheduler::counts() const {
  SchedulerCounts counts = state_->totals;
  for (const Entry* entry : state_->running) ++(entry->paused() ? counts.waiting : counts.running);
  counts.waiting += static_cast<int64_t>(state_->waiting.size());
  for (size_t group = 0; group < state_->pools.size(); ++group) {
    const BlockPool& pool = *state_->pools[group];
    const int64_t cached = state_->prefix_cache.num_unshared(pool, group);
    counts.total_blocks += pool.num_blocks();
    counts.free_blocks += pool.num_free();
    counts.cached_blocks += cached;
    counts.held_blocks += pool.num_blocks() - pool.num_free() - cached;
  }
  return counts;
}

}  // namespace tidemill
