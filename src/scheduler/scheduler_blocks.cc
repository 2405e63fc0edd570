// Who gets blocks: taking them, preempting others for them, being admitted with them.
#include <algorithm>
#include <new>

#include "base/check.h"
#include "scheduler/scheduler_state.h"

namespace tidemill {

bool Scheduler::State::take_block(size_t group, BlockTable& table) {
  std::optional<int32_t> after;
  if (!table.empty() && table.back()) after = table.back().id();
  BlockPool& pool = *pools[group];
  if (!pool.goes_on(after)) make_bundle(pool);
  while (pool.num_free() == 0) {
    if (!prefix_cache.evict_one(pool_list)) return false;
  }
  table.push_back(pool.take(after));
  return true;
}

// A run of neighbours wants a whole bundle. What was cached longest ago gives way to it before it
// must, a bundle's blocks at most, while little of the pool lies free: one at a time, the blocks of
// a sequence come free from its end on, and who takes them so gets no neighbours at all.
void Scheduler::State::make_bundle(const BlockPool& pool) {
  const int64_t little = pool.num_blocks() / 12;
  for (int i = 0; i < kBlocksPerBundle; ++i) {
    if (pool.has_free_bundle() || pool.num_free() >= little) return;
    if (!prefix_cache.evict_one(pool_list)) return;
  }
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
// group, or without one of the leader of the same prompt where it still has them (one group, and no
// window has passed them). At least one token is left to compute, for its logits.
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
             std::all_of(leader->sequence.block_tables[0].begin(),
                         leader->sequence.block_tables[0].begin() + most,
                         [](const BlockRef& block) { return static_cast<bool>(block); })) {
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
