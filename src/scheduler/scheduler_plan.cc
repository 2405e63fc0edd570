// Who runs in the next step. In which blocks: scheduler_blocks.cc.
#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "scheduler/scheduler_state.h"

namespace tidemill {
namespace {

// Prompts that are scored take so small a part of a step's tokens before newcomers are let in.
constexpr int32_t kScoredShare = 16;

// Where nobody has measured how many are free.
constexpr int32_t kAssumedFreeTokens = 16;
// Each may ask for a row of logits: memory that is set aside at start.
constexpr int32_t kMostSpeculativeTokens = 64;

// Of a prompt from position `begin` on. n tokens attend n begin + n (n + 1) / 2 keys, up to the
// window, and as many as that has each behind it.
double tokens_within(double time, int32_t begin, int64_t window, const StepCosts& costs) {
  const double square = costs.prompt_key / 2.0;
  const double linear = costs.prompt_token + costs.prompt_key * (begin + 0.5);
  if (linear <= 0.0) return std::numeric_limits<double>::infinity();
  const double tokens = 2.0 * time / (linear + std::sqrt(linear * linear + 4.0 * square * time));
  const auto growing = static_cast<double>(std::max<int64_t>(0, window - begin));
  if (window == 0 || tokens <= growing) return tokens;
  const double rest = time - growing * (linear + growing * square);
  return growing + rest / (costs.prompt_token + costs.prompt_key * static_cast<double>(window));
}

}  // namespace

int32_t SchedulerOptions::speculative_tokens() const {
  if (speculative == "off" || speculative_length == 0) return 0;
  const int32_t assumed = free_tokens > 0 ? free_tokens : kAssumedFreeTokens;
  const bool by_growth = speculative == "auto" && (draft_model_cost == 0.0 || !step_growth.empty());
  const int32_t tokens = by_growth ? static_cast<int32_t>(step_growth.size()) : assumed;
  return std::min({tokens, kMostSpeculativeTokens, max_step_tokens / 2});
}

int32_t SchedulerOptions::most_score_rows() const {
  SchedulerOptions most = *this;
  most.free_tokens = kMostSpeculativeTokens;
  most.step_growth.resize(kMostSpeculativeTokens);
  return most.max_score_rows();
}

StepPlan Scheduler::State::plan_step() {
  const auto num_active = std::count_if(running.begin(), running.end(),
                                        [](const Entry* entry) { return !entry->paused(); });
  PlanDraft plan(num_active, std::min(static_cast<size_t>(options.max_sequences), entries.size()),
                 options.window, draft_cover.has_value(), std::exchange(in_flight, {}));
  plan_decodes(plan);
  pay_for_drafts(plan);
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
// leave.
int32_t Scheduler::State::prompt_budget(const PlanDraft& plan, int32_t begin) const {
  const int32_t left = prompt_budget_left(plan);
  if (costs.limit <= 0.0) return left;
  const double time = std::max(0.0, costs.limit - cost_of(plan.work(), costs));
  double tokens = tokens_within(time, begin, options.window, costs);
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

// Of own texts in equal parts. Of ngram, what the decodes leave of the tokens that are free: with
// as many sequences as there are free tokens nobody drafts. Of auto, what every account holds.
DraftBudget Scheduler::State::draft_budget() const {
  DraftBudget budget{.of_all = options.max_step_drafts};
  int32_t num_decodes = 0;
  double most_growth = std::numeric_limits<double>::infinity();
  for (const Entry* entry : running) {
    if (!decodes(*entry)) continue;
    ++num_decodes;
    most_growth = std::min(most_growth, entry->draft_account.most_growth());
  }
  const int32_t tokens = options.speculative_tokens();
  if (num_decodes == 0 || num_decodes >= tokens) return budget;
  const int32_t free = tokens - num_decodes;
  const size_t known = std::min(options.step_growth.size(), static_cast<size_t>(tokens));
  const int32_t drafts =
      options.speculative == "auto"
          ? affordable_drafts(std::span(options.step_growth).first(known), num_decodes, most_growth,
                              NgramDrafts::kLeastChance)
          : free;
  budget.of_each = std::min(options.speculative_length, drafts / num_decodes);
  if (options.draft_model_cost == 0.0) {
    budget.of_all += drafts;
    return budget;
  }
  budget.of_all += free;
  budget.num_decodes = num_decodes;
  budget.of_each_by_model = std::min(options.speculative_length, free / num_decodes);
  budget.model_tokens = options.max_step_tokens;
  if (running.size() == 1 && waiting.empty()) return budget;
  // Others wait for what it has to catch up with. What that takes no limit of a step knows.
  if (options.mixed_step_tokens > 0) {
    budget.model_tokens = std::min(budget.model_tokens, options.mixed_step_tokens);
  }
  const bool has_prompts = !waiting.empty() || static_cast<int32_t>(running.size()) > num_decodes;
  if (costs.limit > 0.0 && has_prompts) budget.of_each_by_model = 0;
  return budget;
}

// As many drafts as make this sequence fastest, if those are more than it has from its own text;
// where there is much that the model has not seen, that first, and none yet. No tokens: it has no
// part in the step.
DraftRow Scheduler::State::ask_model(Entry& entry, const DraftBudget& budget, int32_t most) const {
  const Sequence& sequence = entry.sequence;
  const auto size = static_cast<int32_t>(sequence.tokens.size());
  const int64_t places = options.draft_model_len - size + 1;  // its last draft has none
  most = static_cast<int32_t>(std::min<int64_t>({most, budget.of_each_by_model, places}));
  if (most <= 0 || budget.model_tokens == 0 || entry.draft_chance.rests()) return {};
  const double chance = entry.draft_chance.value();
  const auto fastest = [&](double with_chance) {
    return fastest_drafts(options.step_growth, budget.num_decodes, options.draft_model_cost,
                          with_chance, most);
  };
  const auto [drafts, speed] = fastest(chance);
  // What it has shown is the reason, and not the crowd.
  if (drafts == 0 && fastest(DraftChance::kAtFirst).drafts > 0) entry.draft_chance.give_up();
  if (drafts <= static_cast<int32_t>(sequence.drafts.size())) return {};
  const int32_t seen = draft_cover->leading(sequence.block_tables[0], sequence.num_cached_tokens);
  if (!is_worth_seeing(entry, size - seen, speed)) return {};
  if (size - seen <= budget.model_tokens) {
    return {.sequence = sequence.id,
            .first_position = seen,
            .num_tokens = size - seen,
            .num_drafts = drafts};
  }
  // In whole blocks: what comes behind in a block that others share is theirs.
  const int32_t end = (seen + budget.model_tokens) / kBlockTokens * kBlockTokens;
  return {.sequence = sequence.id, .first_position = seen, .num_tokens = std::max(0, end - seen)};
}

// Two that share blocks which the draft model lacks: one of them computes these, and the other
// finds them in the next step.
bool Scheduler::State::shares_what_is_computed(const DraftRow& row, const PlanDraft& plan) {
  const auto table_of = [this](const DraftRow& of) -> const BlockTable& {
    return find(of.sequence)->sequence.block_tables[0];
  };
  const BlockTable& table = table_of(row);
  return std::any_of(
      plan.draft_rows().begin(), plan.draft_rows().end(), [&](const DraftRow& other) {
        const BlockTable& of_other = table_of(other);
        // Whoever shares a block shares all before it: it stands at the same place. The last token
        // may have none yet, and would not share it.
        const int64_t both =
            std::min(row.first_position + row.num_tokens, other.first_position + other.num_tokens);
        const auto end =
            std::min({static_cast<size_t>(blocks_for(both)), table.size(), of_other.size()});
        const int32_t begin = std::max(row.first_position, other.first_position) / kBlockTokens;
        for (auto at = static_cast<size_t>(begin); at < end; ++at) {
          if (table[at].id() == of_other[at].id()) return true;
        }
        return false;
      });
}

// Nobody knows how long an answer will be. What a draft model has to see before it can draft is
// paid for when as much has been lost without it: at worst that is twice what was needed. Never
// where it cannot pay for itself any more.
bool Scheduler::State::is_worth_seeing(const Entry& entry, int32_t num_tokens, double speed) const {
  constexpr int32_t kLittle = kBlockTokens;
  if (num_tokens <= kLittle) return true;
  const double price = catching_up(options.step_growth, options.draft_model_cost, num_tokens);
  const int32_t said = entry.sequence.num_new_tokens();
  const int32_t left = entry.request.max_new_tokens - said;
  return said * (speed - 1.0) >= price && left * (1.0 - 1.0 / speed) >= price;
}

// What the drafts of this step cost those who decode in it.
void Scheduler::State::pay_for_drafts(const PlanDraft& plan) {
  if (options.speculative != "auto" || options.step_growth.empty()) return;
  const auto num_decodes = static_cast<int32_t>(plan.num_rows());
  const auto num_drafts =
      static_cast<int32_t>(plan.num_tokens() - plan.num_model_drafts()) - num_decodes;
  const double growth = growth_by_drafts(options.step_growth, num_decodes, num_drafts);
  for (const PlanRow& row : plan.rows()) find(row.sequence)->draft_account.pay(growth);
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

// Of a plan that nothing came of.
void Scheduler::State::forget_places(Entry& entry) {
  if (std::exchange(entry.awaits_drafts, false)) entry.sequence.drafts.clear();
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
    forget_places(*entry);
    const bool from_outside = !sequence.drafts.empty();
    if (!from_outside && budget.of_each > 0) propose_own(*entry, std::min(most, budget.of_each));
    DraftRow asked = from_outside ? DraftRow{} : ask_model(*entry, budget, most);
    if (asked.num_tokens > 0 && shares_what_is_computed(asked, plan)) asked = {};
    if (asked.num_drafts > 0) {
      entry->awaits_drafts = true;
      sequence.drafts.assign(static_cast<size_t>(asked.num_drafts), 0);
    }
    auto drafts = std::max(0, std::min(static_cast<int32_t>(sequence.drafts.size()), most));
    if (drafts > 0 && !reserve(*entry, sequence.num_cached_tokens + 1 + drafts)) drafts = 0;
    if (!reserve_preempting(*entry, sequence.num_cached_tokens + 1, plan)) continue;
    make_room_for_tokens(*entry, 1 + drafts);
    sequence.drafts.resize(static_cast<size_t>(drafts));
    budget.of_all -= drafts;
    if (asked.num_tokens > 0) {
      asked.num_drafts = std::min(asked.num_drafts, drafts);
      budget.model_tokens -= asked.num_tokens;
      plan.add(asked);
    }
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

}  // namespace tidemill
