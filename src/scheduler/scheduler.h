// Who runs next, and in which blocks. Pure: tokens and block numbers only; no tensor, thread, clock
// or file. Owned by the step loop's thread.
//
//   add / cancel / pause / resume      what the mailbox brings
//   next_step()                        a StepPlan: decodes first, then prefill chunks, then
//                                      newcomers, within the token budget; takes blocks; preempts
//                                      the newest when out
//   commit(result)                     tokens recorded, ends decided, blocks given back
//
// Whatever memory an add() does not find, cancel() undoes it. A next_step() or commit() that throws
// std::bad_alloc leaves every sequence as sound as before; drop_plan(), and the next one goes on.
//
// Progress: when anything is runnable, every step advances or admits at least one sequence.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/token_id.h"
#include "scheduler/step_plan.h"

namespace tidemill {

struct Sequence;

// Layers that keep keys and values by the same rule share a group, and a block table per sequence.
struct KvGroupOptions {
  int64_t num_blocks = 0;
  int64_t window = 0;  // 0: every position is kept; else blocks wholly before the window are freed
};

// min_chunk_tokens for that budget of steps with decodes: half of it in whole blocks, 32 or 64
// tokens. 0: any other budget.
constexpr int32_t chunk_of_mixed_step(int32_t mixed_step_tokens) {
  return mixed_step_tokens == 0 || mixed_step_tokens >= 128 ? 64 : 32;
}

struct SchedulerOptions {
  int32_t max_sequences = 32;     // that run in one step (max_rolling_batch_size)
  int32_t max_step_tokens = 512;  // token budget of a step
  // Budget of a step that has decodes: who waits for a next token waits as long as such a step
  // takes. A prompt goes on by min_chunk_tokens however many decodes there are. 0: as any other.
  int32_t mixed_step_tokens = 0;
  // Drafts of all sequences in one step. Each asks for a row of logits beyond that of its sequence,
  // and memory for those is set aside at start.
  int32_t max_step_drafts = 0;
  // Drafts from a sequence's own text (ngram_drafts.h), beside those: off; ngram, by free_tokens;
  // or auto, by step_growth (draft_costs.h). All who decode in a step may have equally many.
  std::string speculative = "auto";
  int32_t speculative_length = 15;  // drafts of one sequence in one step, at most
  // T* of a calibration: a step of so many tokens takes hardly longer than one of a single token,
  // for it waits for the weights all the same. 0: not known; then ngram takes 16.
  int32_t free_tokens = 0;
  // By a calibration: StepGrowth of draft_costs.h. Empty: not known; then auto drafts nothing from
  // a text, and a draft model's are counted as if 16 tokens took twice the time of one.
  std::vector<double> step_growth;
  // Drafts of a model of their own, where a text has no better ones: what that takes for a token,
  // in steps of the model that decode one. 0: there is no such model.
  double draft_model_cost = 0.0;
  int64_t draft_model_len = 0;    // positions that it was made for
  int32_t min_chunk_tokens = 64;  // a prefill chunk is at least this long unless it ends a prompt
  int32_t max_preemptions = 3;    // afterwards a sequence is protected
  // Tokens that a token attends to at most, itself included: what its keys are counted by
  // (step_costs.h). 0: all before it. Which blocks are kept is said by the groups.
  int64_t window = 0;
  bool prefix_cache = true;
  // Of a block in the prefix cache; null: its own. Simulations pass one whose values collide.
  uint64_t (*block_hash)(std::span<const TokenId> tokens) = nullptr;
  std::vector<KvGroupOptions> groups = {KvGroupOptions{}};

  // The tokens of a step that decodes and their own drafts share; 0: there are no such drafts. At
  // least half of a step is left to others.
  int32_t speculative_tokens() const;
  // Of one step; no plan asks for more.
  int32_t max_score_rows() const {
    const int32_t own_drafts = std::max(0, speculative_tokens() - 1);
    return std::min(max_sequences + max_step_drafts + own_drafts, max_step_tokens);
  }
  // The same for whatever a calibration finds: what memory is planned by.
  int32_t most_score_rows() const;
};

struct NewSequence {
  SequenceId id = 0;
  std::vector<TokenId> prompt;  // at least one token
  int32_t max_new_tokens = 0;   // at least one, or none where the prompt is scored
  int32_t min_new_tokens = 0;
  std::vector<TokenId> end_ids;   // end of sequence
  std::vector<TokenId> stop_ids;  // the request's own
  // Blocks may be shared only inside a scope: model, adapter, salt, rotary settings, KV format.
  std::string prefix_scope;
  // Another choice of the same prompt: it starts when that sequence's prompt is in the KV cache and
  // shares its full blocks (n > 1). If the leader ends before, it starts on its own.
  std::optional<SequenceId> same_prompt_as;
  // Every token of the prompt but the first is scored, with a score row each. Of a step's score
  // rows everybody else who runs or can be let in has one first, and of its tokens such prompts
  // take a sixteenth before newcomers have theirs; then they take what is left. What the prefix
  // cache holds was computed without scores: such a sequence takes from it only what it had scored
  // before it was preempted.
  bool score_prompt = false;
  int32_t priority = 0;  // lower ones are admitted first; it takes no blocks from anybody
};

// Why a sequence is left out of steps. Each reason comes and goes on its own: a reader that has
// caught up does not start what waits for a mask.
enum class PauseReason : uint8_t { kSlowReader, kMask, kAdapter };

enum class EndReason { kEndToken, kStopToken, kLength, kFailed };

struct SequenceEnd {
  SequenceId id = 0;
  EndReason reason = EndReason::kLength;
  std::optional<TokenId> stop_id;  // for kStopToken
  bool operator==(const SequenceEnd&) const = default;
};

// What commit() did with a result.
struct Recorded {
  std::vector<SequenceEnd> ends;
  // Per row of the result: how many of its accepted tokens the sequence took. What was accepted
  // behind an end is dropped, and no reader may see it. 0 where the row failed or its sequence was
  // cancelled.
  std::vector<int32_t> num_tokens;
};

struct SchedulerCounts {
  int64_t running = 0;  // in the batch
  int64_t waiting = 0;  // admitted, not in the batch; preempted and paused ones included
  int64_t total_blocks = 0;
  int64_t free_blocks = 0;            // over all groups
  int64_t cached_blocks = 0;          // held by the prefix cache alone
  int64_t held_blocks = 0;            // held by at least one sequence
  int64_t preemptions = 0;            // so far
  int64_t prefix_queried_tokens = 0;  // so far
  int64_t prefix_hit_tokens = 0;
  int64_t draft_rows = 0;  // of plans that were answered: rows with drafts, so far
  int64_t draft_tokens = 0;
  int64_t accepted_draft_tokens = 0;
};

class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);
  ~Scheduler();

  // A sequence that could never fit the pool must have been refused before (fits()).
  void add(NewSequence sequence);
  bool fits(int64_t num_tokens) const;  // a sequence of that final length, alone in the pool
  // Ends a sequence wherever it is; its blocks are free at once. Unknown ids are ignored: the end
  // may have crossed the cancellation.
  void cancel(SequenceId id);
  // A paused sequence is left out of steps until every reason to pause it has gone. It keeps its
  // blocks while others can run without them, and takes no place in the batch.
  void pause(SequenceId id, PauseReason reason);
  void resume(SequenceId id, PauseReason reason);
  // Tokens that may follow: the next step of a sequence in decode computes them, too, with a score
  // row each; the result accepts as many as were right. Dropped where the step has no room. Whoever
  // has none may get some from its own text (SchedulerOptions::speculative), or asks for some of
  // the draft model, as the plan's draft rows say.
  void propose(SequenceId id, std::vector<TokenId> drafts);

  // The next plan, valid until it is answered; empty when nothing can run. Exactly one commit() or
  // drop_plan() follows each non-empty plan.
  // Prompts take of a step what the costs leave of its time: at least a block of one of them,
  // whatever it costs, so that every prompt goes on. Decodes are not held back.
  const StepPlan& next_step(const StepCosts& costs = {});
  // The drafts of a plan's draft rows, one row's behind the other's: before the plan's tokens are
  // looked at, and only where it has draft rows.
  void supply_drafts(std::span<const TokenId> drafts);
  // Nothing comes of the plan that was made last, or that was to be made: its tokens are still to
  // be computed. Whether some of them were does not matter, they are written over.
  void drop_plan();
  // Results for the plan's rows that asked for scores. Sequences cancelled in between are skipped.
  // Valid until the next call.
  const Recorded& commit(const StepResult& result);

  // Forgets up to so many cached blocks that no sequence holds; how many it forgot.
  int64_t drop_cached(int64_t most);

  // For building the step's input; null after the end. Only the scheduler changes a Sequence.
  const Sequence* find(SequenceId id) const;
  SchedulerCounts counts() const;
  // Behind so many blocks of a group none was ever held; of the group where they are most.
  int64_t used_blocks() const;

  // Audits every invariant of the block pool, prefix cache and sequences (I1..I9); for tests.
  void check_invariants() const;
  // The part of it that concerns the sequences of that plan (I3, I5, I8, I12): cheap enough to be
  // audited after every event of a long simulation.
  void check_invariants_of(const StepPlan& plan) const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
