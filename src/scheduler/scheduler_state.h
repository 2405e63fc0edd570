// What a Scheduler consists of. Private to scheduler/: planning (scheduler_plan.cc), who gets
// blocks (scheduler_blocks.cc) and the rest (scheduler.cc) share it.
#pragma once

#include <algorithm>
#include <memory>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/draft_costs.h"
#include "scheduler/draft_cover.h"
#include "scheduler/ngram_drafts.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace tidemill {

inline int64_t blocks_for(int64_t num_tokens) {
  return (num_tokens + kBlockTokens - 1) / kBlockTokens;
}

// A sequence and what the scheduler alone knows about it.
struct Entry {
  NewSequence request;  // its prompt has moved into sequence.tokens
  Sequence sequence;
  int64_t arrival = 0;
  int32_t num_scored_tokens = 0;     // leading positions whose rows have been scored
  bool running = false;              // in `running`; otherwise in `waiting`
  uint8_t pause_reasons = 0;         // a set: bit r stands for PauseReason r
  int32_t num_published_blocks = 0;  // leading blocks that were offered to the prefix cache
  PrefixCache::NodeId last_published = PrefixCache::kRoot;  // its node of the last of them
  bool may_publish = true;  // false: there was no memory for one, and those behind it need it
  std::unique_ptr<NgramDrafts> own_text;  // from its first decode on, where own drafts are wanted
  DraftAccount draft_account;
  DraftChance draft_chance;    // of the draft model
  bool awaits_drafts = false;  // what stands in sequence.drafts are places for those of the model

  bool paused() const { return pause_reasons != 0; }
  // Of the prompt's positions [begin, end), those that are still to be scored; the last one of the
  // prompt has no token behind it.
  int32_t num_unscored(int32_t begin, int32_t end) const {
    if (!request.score_prompt) return 0;
    return std::max(
        0, std::min(end, sequence.num_prompt_tokens - 1) - std::max(begin, num_scored_tokens));
  }
};

// Who is admitted first: those who were preempted, in order of arrival; then by priority, and in
// order of arrival among equals.
inline bool goes_before(const Entry& a, const Entry& b) {
  const bool a_has_begun = a.sequence.num_preemptions > 0;
  const bool b_has_begun = b.sequence.num_preemptions > 0;
  if (a_has_begun != b_has_begun) return a_has_begun;
  if (!a_has_begun && a.request.priority != b.request.priority) {
    return a.request.priority < b.request.priority;
  }
  return a.arrival < b.arrival;
}

// A plan while it is made, with its sums: asked for before every row, they are not added up again.
class PlanDraft {
 public:
  // `num_active` sequences run and are not paused; there will be `most_rows` at most. Takes the
  // memory for them here, beyond what `memory`, an older plan's, has; with a draft model, for as
  // many of its rows. `window` as in SchedulerOptions.
  PlanDraft(int64_t num_active, size_t most_rows, int64_t window, bool has_draft_model,
            StepPlan memory)
      : plan_(std::move(memory)), num_active_(num_active) {
    plan_.clear();
    plan_.window = window;
    plan_.rows.reserve(most_rows);
    if (has_draft_model) plan_.draft_rows.reserve(most_rows);
  }

  void add(const PlanRow& row) {
    plan_.rows.push_back(row);
    count(row, 1);
  }
  void add(const DraftRow& row) { plan_.draft_rows.push_back(row); }
  void replace(size_t index, const PlanRow& row) {
    count(plan_.rows[index], -1);
    plan_.rows[index] = row;
    count(row, 1);
  }
  void remove(SequenceId id) {
    std::erase_if(plan_.rows, [&](const PlanRow& row) {
      if (row.sequence != id) return false;
      count(row, -1);
      return true;
    });
    std::erase_if(plan_.draft_rows, [&](const DraftRow& row) { return row.sequence == id; });
  }
  void add_active(int64_t more) { num_active_ += more; }

  bool empty() const { return plan_.empty(); }
  int64_t num_rows() const { return static_cast<int64_t>(plan_.rows.size()); }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_score_rows() const { return num_score_rows_; }
  int64_t num_prompt_rows() const { return num_prompt_rows_; }
  int64_t num_active() const { return num_active_; }
  bool has_chunk() const { return num_prompt_tokens_ > 0; }
  bool has_decode() const { return num_tokens_ > num_prompt_tokens_; }
  StepWork work() const {
    return {.decode_tokens = static_cast<double>(num_tokens_ - num_prompt_tokens_),
            .decode_keys = static_cast<double>(num_keys_ - num_prompt_keys_),
            .prompt_tokens = static_cast<double>(num_prompt_tokens_),
            .prompt_keys = static_cast<double>(num_prompt_keys_)};
  }
  const std::vector<PlanRow>& rows() const { return plan_.rows; }
  const std::vector<DraftRow>& draft_rows() const { return plan_.draft_rows; }
  int64_t num_model_drafts() const { return plan_.num_model_drafts(); }
  StepPlan take() { return std::move(plan_); }

 private:
  void count(const PlanRow& row, int64_t times) {
    num_keys_ += times * row.num_keys(plan_.window);
    if (!row.is_decode()) {
      num_prompt_tokens_ += times * row.num_tokens;
      num_prompt_keys_ += times * row.num_keys(plan_.window);
    }
    num_tokens_ += times * row.num_tokens;
    num_score_rows_ += times * row.num_score_rows;
    num_prompt_rows_ += times * row.num_prompt_rows;
  }

  StepPlan plan_;
  int64_t num_tokens_ = 0;
  int64_t num_prompt_tokens_ = 0;
  int64_t num_keys_ = 0;
  int64_t num_prompt_keys_ = 0;
  int64_t num_score_rows_ = 0;
  int64_t num_prompt_rows_ = 0;
  int64_t num_active_;
};

// What drafts may take of a step.
struct DraftBudget {
  int32_t of_each = 0;  // from its own text
  int32_t of_all = 0;   // with those that were proposed from outside, and the draft model's
  // Of the draft model.
  int32_t of_each_by_model = 0;
  int32_t model_tokens = 0;  // that it may compute before its first drafts, of all
  int32_t num_decodes = 0;
};

struct Scheduler::State {
  explicit State(const SchedulerOptions& scheduler_options);

  // Planning. Where memory runs out in the middle, what was done to sequences until then stands
  // and hurts none: blocks that were taken, preemptions, admissions.
  StepPlan plan_step();
  void plan_decodes(PlanDraft& plan);
  DraftBudget draft_budget() const;
  void pay_for_drafts(const PlanDraft& plan);
  static bool decodes(const Entry& entry);
  static void propose_own(Entry& entry, int32_t most) noexcept;
  static void forget_places(Entry& entry);
  DraftRow ask_model(Entry& entry, const DraftBudget& budget, int32_t most) const;
  bool is_worth_seeing(const Entry& entry, int32_t num_tokens, double speed) const;
  bool shares_what_is_computed(const DraftRow& row, const PlanDraft& plan);
  void plan_chunks(PlanDraft& plan);
  void plan_admissions(PlanDraft& plan);
  void plan_more_scores(PlanDraft& plan);
  bool plan_chunk(PlanDraft& plan, Entry& entry, int32_t tokens);
  static PlanRow chunk_row(const Entry& entry, int32_t tokens);
  int32_t chunk_tokens(const PlanDraft& plan, const Entry& entry) const;
  int32_t budget_left(const PlanDraft& plan) const;
  int32_t prompt_budget_left(const PlanDraft& plan) const;
  int32_t prompt_budget(const PlanDraft& plan, int32_t begin) const;
  int32_t first_score_rows(const PlanDraft& plan, const Entry& entry) const;
  bool is_full(const PlanDraft& plan) const;

  // Blocks.
  // Makes sure that positions below num_tokens have blocks; false when the pool is exhausted.
  bool reserve(Entry& entry, int64_t num_tokens);
  // The same, preempting newer sequences until it succeeds or nobody may be preempted.
  bool reserve_preempting(Entry& entry, int64_t num_tokens, PlanDraft& plan);
  bool take_block(size_t group, BlockTable& table);
  void make_bundle(const BlockPool& pool);
  void release(Entry& entry);
  void free_outside_window(Entry& entry);

  // Admission and preemption.
  bool may_start(const Entry& entry) const;
  bool admit(Entry& entry);
  bool has_room(const Entry& entry, int64_t num_blocks);
  void find_prefix(Entry& entry);
  void preempt(Entry& victim, PlanDraft& plan);
  bool preempt_paused(PlanDraft& plan);
  Entry* victim_for(const Entry& entry);
  bool is_protected(const Entry& entry) const;

  // After a step.
  // `draft` is null where the draft model had no part.
  void advance(Entry& entry, const PlanRow& row, const DraftRow* draft, const RowResult* result);
  void accept(Entry& entry, const PlanRow& row, int32_t num_model_drafts, const RowResult& result);
  void publish_blocks(Entry& entry);
  std::optional<SequenceEnd> append(Entry& entry, TokenId token);
  void remove(Entry& entry);
  void wait(Entry& entry);  // at its place in `waiting`

  Entry* find(SequenceId id);
  // Memory that planning and recording rely on: room in the lists for another sequence, and in a
  // sequence for the tokens that a row may bring.
  void make_room_for_one_more();
  static void make_room_for_tokens(Entry& entry, int32_t num_tokens);

  const SchedulerOptions options;
  std::vector<std::unique_ptr<BlockPool>> pools;  // one per KV group; outlive everything below
  std::vector<BlockPool*> pool_list;              // the same
  PrefixCache prefix_cache;
  std::optional<DraftCover> draft_cover;  // of group 0; where there is a draft model
  std::unordered_map<SequenceId, std::unique_ptr<Entry>> entries;
  std::vector<Entry*> waiting;  // as goes_before() orders them
  std::vector<Entry*> running;  // in order of arrival
  std::vector<Entry*> visited;  // of them, while a plan is made: preemption takes from `running`
  StepPlan in_flight;           // empty: every plan was answered
  Recorded recorded;            // of the last one
  StepCosts costs;              // of the plan that is made
  int64_t num_arrivals = 0;
  SchedulerCounts totals;  // the counters of counts()
};

}  // namespace tidemill
