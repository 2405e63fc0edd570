// Who runs in the next step, and in which blocks.
#include <algorithm>
#include <cmath>
#include <new>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace tidemill {
namespace {

// Prompts that are scored take so small a part of a step's tokens before newcomers are let in.
constexpr int32_t kScoredShare = 16;

// Where nobody has measured how many are free.
constexpr int32_t kAssumedFreeTokens = 16;
// Each may ask for a row of logits: memory that is set aside at start.
constexpr int32_t kMostSpeculativeTokens = 64;

}  // namespace

int32_t SchedulerOptions::speculative_tokens() const {
  if (speculative == "off" || speculative_length == 0) return 0;
  const int32_t assumed = free_tokens > 0 ? free_tokens : kAssumedFreeTokens;
  const int32_t tokens = speculative == "auto" ? level_tokens : assumed;
  return std::min({tokens, kMostSpeculativeTokens, max_step_tokens / 2});
}

int32_t SchedulerOptions::most_score_rows() const {
  SchedulerOptions most = *this;
  most.free_tokens = most.level_tokens = kMostSpeculativeTokens;
  return most.max_score_rows();
}

StepPlan Scheduler::State::plan_step() {
  const auto num_active = std::count_if(running.begin(), running.end(),
                                        [](const Entry* entry) { return !entry->paused(); });
  PlanDraft plan(num_active, std::min(static_cast<size_t>(options.max_sequences), entries.size()));
  plan_decodes(plan);
  plan_chunks(plan);
  plan_admissions(plan);
  plan_more_scores(plan);
  return plan.take();
}

int32_t Scheduler::State::budget_left(const PlanDraft& plan) const {
  return options.max_step_tokens - static_cast<int32_t>(plan.num_tokens());
}

// Of the budget, what prompts may have: less where decodes would wait for them.
int32_t Scheduler::State::prompt_budget_left(const PlanDraft& plan) const {
  const int32_t left = budget_left(plan);
  if (options.mixed_step_tokens == 0 || !plan.has_decode()) return left;
  const int32_t least = plan.has_chunk() ? 0 : std::max(options.min_chunk_tokens, kBlockTokens);
  const int32_t mixed = options.mixed_step_tokens - static_cast<int32_t>(plan.num_tokens());
  return std::min(left, std::max(least, mixed));
}

// Tokens of a prompt from position `begin` on: those that the budget and the time of the step
// leave. n of them attend n begin + n (n + 1) / 2 keys.
int32_t Scheduler::State::prompt_budget(const PlanDraft& plan, int32_t begin) const {
  const int32_t left = prompt_budget_left(plan);
  if (costs.limit <= 0.0) return left;
  const double time = std::max(0.0, costs.limit - cost_of(plan.work(), costs));
  const double square = costs.prompt_key / 2.0;
  const double linear = costs.prompt_token + costs.prompt_key * (begin + 0.5);
  double tokens = square > 0.0
                      ? 2.0 * time / (linear + std::sqrt(linear * linear + 4.0 * square * time))
                      : (linear > 0.0 ? time / linear : left);
  if (costs.most_prompt_tokens > 0.0) {
    tokens = std::min(tokens, std::max(0.0, costs.most_prompt_tokens - plan.work().prompt_tokens));
  }
  const int32_t least = plan.has_chunk() ? 0 : kBlockTokens;
  return std::min(left, std::max(least, static_cast<int32_t>(std::min<double>(tokens, left))));
}

// Sequences that were paused keep their blocks, not their place: when they come back there may be
// more than may run, and the oldest do.
bool Scheduler::State::is_full(const PlanDraft& plan) const {
  return plan.num_rows() >= options.max_sequences || budget_left(plan) < 1 ||
         plan.num_score_rows() >= options.max_score_rows();
}

// For a sequence whose prompt is scored, before it is known what newcomers take: those that nobody
// has, less one for each of the others that run and for each that may be let in, and so few that
// such prompts together leave nearly all of the step's tokens. What nobody takes they get at last
// (plan_more_scores).
int32_t Scheduler::State::first_score_rows(const PlanDraft& plan, const Entry& entry) const {
  const int64_t num_others = plan.num_active() - entry.running;
  const int64_t unplanned = std::max<int64_t>(0, num_others - plan.num_rows());
  const int64_t places = std::max<int64_t>(0, options.max_sequences - num_others - 1);
  const auto num_waiting = static_cast<int64_t>(waiting.size()) - !entry.running;
  const int64_t free = options.max_score_rows() - plan.num_score_rows();
  const int64_t share = options.max_step_tokens / kScoredShare - plan.num_prompt_rows();
  const int64_t rows = std::min(free - unplanned - std::min(places, num_waiting), share);
  return static_cast<int32_t>(std::max<int64_t>(rows, 1));
}

bool Scheduler::State::decodes(const Entry& entry) {
  return entry.running && !entry.paused() && entry.sequence.num_pending_tokens() == 1;
}

// What the decodes leave of the tokens that are free, in equal parts: with as many sequences as
// there are free tokens nobody drafts, and a step takes as long as it would without.
DraftBudget Scheduler::State::draft_budget() const {
  DraftBudget budget{.of_all = options.max_step_drafts};
  const int32_t free_tokens = options.speculative_tokens();
  if (free_tokens == 0) return budget;
  const auto num_decodes = static_cast<int32_t>(std::count_if(
      running.begin(), running.end(), [](const Entry* entry) { return decodes(*entry); }));
  if (num_decodes == 0 || num_decodes >= free_tokens) return budget;
  budget.of_each = std::min(options.speculative_length, free_tokens / num_decodes - 1);
  budget.of_all += free_tokens - num_decodes;
  return budget;
}

// Drafts are only ever worth time: without memory for them there are none.
void Scheduler::State::propose_own(Entry& entry, int32_t most) noexcept {
  Sequence& sequence = entry.sequence;
  try {
    if (entry.own_text == nullptr) {
      entry.own_text = std::make_unique<NgramDrafts>(int64_t{sequence.num_prompt_tokens} +
                                                     entry.request.max_new_tokens);
    }
    entry.own_text->observe(sequence.tokens);
    const int32_t count = std::min(most, entry.own_text->num_worthwhile());
    if (count > 0) entry.own_text->propose(sequence.tokens, count, sequence.drafts);
  } catch (const std::bad_alloc&) {
    sequence.drafts.clear();
  }
}

void Scheduler::State::plan_decodes(PlanDraft& plan) {
  DraftBudget budget = draft_budget();
  visited = running;
  for (Entry* entry : visited) {
    Sequence& sequence = entry->sequence;
    if (!decodes(*entry)) continue;
    if (is_full(plan)) return;
    const int32_t left = entry->request.max_new_tokens - sequence.num_new_tokens();
    const int32_t most = std::min({budget_left(plan) - 1, left - 1, budget.of_all});
    if (sequence.drafts.empty() && budget.of_each > 0) {
      propose_own(*entry, std::min(most, budget.of_each));
    }
    auto drafts = std::max(0, std::min(static_cast<int32_t>(sequence.drafts.size()), most));
    if (drafts > 0 && !reserve(*entry, sequence.num_cached_tokens + 1 + drafts)) drafts = 0;
    if (!reserve_preempting(*entry, sequence.num_cached_tokens + 1, plan)) continue;
    make_room_for_tokens(*entry, 1 + drafts);
    sequence.drafts.resize(static_cast<size_t>(drafts));
    budget.of_all -= drafts;
    plan.add({.sequence = sequence.id,
              .first_position = sequence.num_cached_tokens,
              .num_tokens = 1 + drafts,
              .num_score_rows = 1 + drafts});
  }
}

void Scheduler::State::plan_chunks(PlanDraft& plan) {
  visited = running;
  for (Entry* entry : visited) {
    if (!entry->running || entry->paused() || entry->sequence.num_pending_tokens() < 2) continue;
    if (is_full(plan)) return;
    const int32_t tokens = chunk_tokens(plan, *entry);
    if (tokens == 0) continue;
    if (!reserve_preempting(*entry, entry->sequence.num_cached_tokens + tokens, plan)) continue;
    plan_chunk(plan, *entry, tokens);  // as reserved, though preemption may have left room for more
  }
}

// First come, first served, by priority: whoever does not fit holds back those behind, unless it
// waits for something other than room (its reader, the leader of its prompt). So does a sequence
// that runs and got nothing in this step: newcomers would take its share of the next ones, too.
void Scheduler::State::plan_admissions(PlanDraft& plan) {
  if (plan.num_active() > plan.num_rows()) return;
  for (size_t i = 0; i < waiting.size() && !is_full(plan);) {
    Entry& entry = *waiting[i];
    if (!may_start(entry)) {
      ++i;
      continue;
    }
    if (chunk_tokens(plan, entry) == 0) return;
    while (!admit(entry)) {
      // Nobody waits for a reader that is slow.
      if (!plan.empty() || !preempt_paused(plan)) return;
    }
    waiting.erase(std::find(waiting.begin(), waiting.end(), &entry));
    plan.add_active(1);
    // Counted again: a prefix that was found is not pending.
    if (!plan_chunk(plan, entry, chunk_tokens(plan, entry))) return;
  }
}

// The score rows that are left when everybody has one, to the prompts that are scored, in the order
// of their rows: nobody gives way for them.
void Scheduler::State::plan_more_scores(PlanDraft& plan) {
  if (plan.num_prompt_rows() == 0) return;
  for (size_t i = 0; i < plan.rows().size(); ++i) {
    const PlanRow& row = plan.rows()[i];
    if (row.num_prompt_rows == 0) continue;
    Entry& entry = *find(row.sequence);
    const int64_t rows = options.max_score_rows() - plan.num_score_rows();
    const int32_t budget = prompt_budget(plan, row.first_position + row.num_tokens);
    int64_t tokens = std::min<int64_t>(entry.sequence.num_pending_tokens(),
                                       row.num_tokens + std::min<int64_t>(budget, rows));
    if (tokens == row.num_tokens) continue;
    if (!reserve(entry, row.first_position + tokens)) {
      for (const BlockTable& table : entry.sequence.block_tables) {
        const auto have = static_cast<int64_t>(table.size()) * kBlockTokens;
        tokens = std::min(tokens, have - row.first_position);
      }
    }
    const PlanRow more = chunk_row(entry, static_cast<int32_t>(tokens));
    make_room_for_tokens(entry, more.num_choice_rows());
    plan.replace(i, more);
  }
}

// How many tokens of a prefill fit this step: all that are pending, or whole blocks of at least
// min_chunk_tokens (or half a step, where that is less), or whatever fits where a step is so small
// that decodes would keep every block out of it, or is empty. 0: not in this step. A prompt that is
// scored goes on by as many as there are score rows for.
int32_t Scheduler::State::chunk_tokens(const PlanDraft& plan, const Entry& entry) const {
  const int32_t pending = entry.sequence.num_pending_tokens();
  const int32_t begin = entry.sequence.num_cached_tokens;
  const int32_t budget = prompt_budget(plan, begin);
  if (entry.num_unscored(begin, begin + pending) > 0) {
    const int32_t scored_already = std::max(entry.num_scored_tokens - begin, 0);
    return std::min({pending, budget, scored_already + first_score_rows(plan, entry)});
  }
  if (pending <= budget) return pending;
  const int32_t whole_blocks = budget / kBlockTokens * kBlockTokens;
  const int32_t half_step = options.max_step_tokens / 2 / kBlockTokens * kBlockTokens;
  // A step whose time is limited takes the blocks that it can.
  const int32_t least = costs.limit > 0.0 ? kBlockTokens : options.min_chunk_tokens;
  if (whole_blocks > 0 && whole_blocks >= std::min(least, half_step)) {
    return whole_blocks;
  }
  return plan.empty() || half_step == 0 ? budget : 0;
}

bool Scheduler::State::plan_chunk(PlanDraft& plan, Entry& entry, int32_t tokens) {
  Sequence& sequence = entry.sequence;
  if (tokens == 0 || !reserve(entry, sequence.num_cached_tokens + tokens)) return false;
  const PlanRow row = chunk_row(entry, tokens);
  make_room_for_tokens(entry, row.num_choice_rows());
  plan.add(row);
  return true;
}

PlanRow Scheduler::State::chunk_row(const Entry& entry, int32_t tokens) {
  const Sequence& sequence = entry.sequence;
  const int32_t begin = sequence.num_cached_tokens;
  const int32_t prompt_rows = entry.num_unscored(begin, begin + tokens);
  const int32_t choice_rows = tokens == sequence.num_pending_tokens() ? 1 : 0;
  return {.sequence = sequence.id,
          .first_position = begin,
          .num_tokens = tokens,
          .num_score_rows = prompt_rows + choice_rows,
          .num_prompt_rows = prompt_rows};
}

bool Scheduler::State::take_block(size_t group, BlockTable& table) {
  std::optional<int32_t> after;
  if (!table.empty() && table.back()) after = table.back().id();
  while (pools[group]->num_free() == 0) {
    if (!prefix_cache.evict_one(pool_list)) return false;
  }
  table.push_back(pools[group]->take(after));
  return true;
}

bool Scheduler::State::reserve(Entry& entry, int64_t num_tokens) {
  const auto wanted = static_cast<size_t>(blocks_for(num_tokens));
  for (size_t group = 0; group < pools.size(); ++group) {
    BlockTable& table = entry.sequence.block_tables[group];
    while (table.size() < wanted) {
      if (!take_block(group, table)) return false;  // what was taken stays for the next try
    }
  }
  return true;
}

bool Scheduler::State::reserve_preempting(Entry& entry, int64_t num_tokens, PlanDraft& plan) {
  while (!reserve(entry, num_tokens)) {
    Entry* victim = victim_for(entry);
    if (victim == nullptr) return false;
    const bool itself = victim == &entry;
    preempt(*victim, plan);
    if (itself) return false;
  }
  return true;
}

bool Scheduler::State::is_protected(const Entry& entry) const {
  return entry.sequence.num_preemptions >= options.max_preemptions;
}

// The newest that runs and may be preempted, `entry` itself included; never the oldest of those
// that could go on.
Entry* Scheduler::State::victim_for(const Entry& entry) {
  const auto oldest = std::find_if(running.begin(), running.end(),
                                   [](const Entry* candidate) { return !candidate->paused(); });
  for (auto it = running.rbegin(); it != running.rend(); ++it) {
    Entry* candidate = *it;
    if (candidate->arrival < entry.arrival && !candidate->paused()) break;
    if (oldest != running.end() && candidate == *oldest) continue;
    if (!is_protected(*candidate)) return candidate;
  }
  return nullptr;
}

void Scheduler::State::preempt(Entry& victim, PlanDraft& plan) {
  plan.remove(victim.sequence.id);
  if (!victim.paused()) plan.add_active(-1);
  std::erase(running, &victim);
  release(victim);
  victim.running = false;
  ++victim.sequence.num_preemptions;
  ++totals.preemptions;
  wait(victim);
}

// Preempts the newest paused sequence that is not protected; false when there is none.
bool Scheduler::State::preempt_paused(PlanDraft& plan) {
  const auto victim = std::find_if(running.rbegin(), running.rend(), [&](const Entry* entry) {
    return entry->paused() && !is_protected(*entry);
  });
  if (victim == running.rend()) return false;
  preempt(**victim, plan);
  return true;
}

// False while it waits for something other than room.
bool Scheduler::State::may_start(const Entry& entry) const {
  if (entry.paused()) return false;
  if (!entry.request.same_prompt_as || entry.sequence.num_preemptions > 0) return true;
  const auto leader = entries.find(*entry.request.same_prompt_as);
  return leader == entries.end() ||
         leader->second->sequence.num_cached_tokens >= entry.sequence.num_prompt_tokens;
}

// That every group has, or can make, the blocks that a table of that length still lacks.
bool Scheduler::State::has_room(const Entry& entry, int64_t num_blocks) {
  int64_t lacking = 0;  // of the group that lacks most
  for (size_t group = 0; group < pools.size(); ++group) {
    const auto have = static_cast<int64_t>(entry.sequence.block_tables[group].size());
    lacking = std::max(lacking, num_blocks - have - pools[group]->num_free());
  }
  // Counted only when it decides: that looks at every node.
  return lacking <= 0 || lacking <= prefix_cache.num_evictable(pool_list);
}

// Takes the cached prefix and a place in the batch when all its present tokens have room. A
// protected sequence takes everything that it can ever need, so that nobody has to give way for it
// and it ends.
bool Scheduler::State::admit(Entry& entry) {
  Sequence& sequence = entry.sequence;
  const int64_t all_tokens = sequence.num_prompt_tokens + entry.request.max_new_tokens;
  const auto present = static_cast<int64_t>(sequence.tokens.size());
  const int64_t wanted = blocks_for(is_protected(entry) ? all_tokens : present);
  try {
    find_prefix(entry);
    if (!has_room(entry, wanted) || (is_protected(entry) && !reserve(entry, all_tokens))) {
      release(entry);
      return false;
    }
  } catch (const std::bad_alloc&) {
    release(entry);  // who waits holds no block
    throw;
  }
  const auto place = std::find_if(running.begin(), running.end(), [&](const Entry* other) {
    return other->arrival > entry.arrival;
  });
  running.insert(place, &entry);
  entry.running = true;
  return true;
}

// Leading whole blocks that are computed already: of the prefix cache, whose blocks are of every
// group, or without one of the leader of the same prompt where it still has them (one group without
// a window). At least one token is left to compute, for its logits.
void Scheduler::State::find_prefix(Entry& entry) {
  Sequence& sequence = entry.sequence;
  const bool first_time = sequence.num_preemptions == 0;
  auto most = (static_cast<int64_t>(sequence.tokens.size()) - 1) / kBlockTokens;
  if (entry.num_unscored(0, sequence.num_prompt_tokens) > 0) {
    most = std::min<int64_t>(most, entry.num_scored_tokens / kBlockTokens);
  }
  Entry* leader = entry.request.same_prompt_as ? find(*entry.request.same_prompt_as) : nullptr;
  PrefixCache::Found found;
  if (options.prefix_cache) {
    found = prefix_cache.find(entry.request.prefix_scope, sequence.tokens, most);
  } else if (leader != nullptr && leader->running && first_time && pools.size() == 1 &&
             options.groups[0].window == 0) {
    CHECK(
        std::equal(sequence.tokens.begin(), sequence.tokens.end(), leader->sequence.tokens.begin(),
                   leader->sequence.tokens.begin() + sequence.num_prompt_tokens) &&
            entry.request.prefix_scope == leader->request.prefix_scope,
        "sequences {} and {} have not the same prompt", sequence.id, leader->sequence.id);
    for (int64_t i = 0; i < most; ++i) {
      found.blocks.emplace_back().push_back(
          leader->sequence.block_tables[0][static_cast<size_t>(i)].share());
    }
  }
  for (PrefixCache::GroupBlocks& of_groups : found.blocks) {
    for (size_t group = 0; group < pools.size(); ++group) {
      sequence.block_tables[group].push_back(std::move(of_groups[group]));
    }
  }
  sequence.num_cached_tokens = static_cast<int32_t>(found.blocks.size()) * kBlockTokens;
  entry.num_published_blocks = static_cast<int32_t>(found.blocks.size());
  entry.last_published = found.last;
  if (first_time) sequence.num_prefix_hit_tokens = sequence.num_cached_tokens;
}

}  // namespace tidemill
