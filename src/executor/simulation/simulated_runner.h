// The network of a simulation: a step takes virtual time, and what a sequence says next is a
// function of all it has said, its seed and its choice. Remembers what was written into which slot,
// and reads back what each row may see: whoever finds another one's tokens there ends the run.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor/simulation/virtual_clock.h"
#include "executor/step_runner.h"
#include "scheduler/scheduler.h"
#include "scheduler/simulation/history.h"
#include "scheduler/simulation/random.h"

namespace tidemill {

// The token behind that history; never one of the forbidden, which leave something over. Letters,
// and sometimes an end; or one of those that are allowed. Whatever else a request changes, the
// token is another one.
TokenId chosen_behind(History history, const SamplingParams& params, int32_t choice,
                      const LogitChanges& changes);
// Of a token behind that history; sums of them are exact.
float logprob_behind(History history, TokenId token);

// What steps take on a machine that nobody knows: costs in seconds, which times vary about, and
// hiccups, in which somebody else has a core. For a limit that can be held.
struct StepLaw {
  StepCosts costs;      // the limit that somebody has set, too
  int64_t noise = 0;    // three deviations, in thousandths
  int64_t hiccups = 0;  // one step in so many; 0: none
  double hiccup = 0.0;  // the longest
};

// Costs by which decodes of `max_sequences` sequences leave room within `limit` seconds.
StepLaw random_law(SimulationRandom& random, double limit, int32_t max_sequences);

// Of steps with prompts in them that hiccups left alone, behind the first fifty, and that a block
// of a prompt fits into.
struct JudgedSteps {
  int64_t all = 0;
  int64_t over = 0;  // by more than 0.15 of the limit
  int64_t used = 0;  // took more than 0.75 of it
};

struct SimulatedRunnerOptions {
  int64_t step_us = 1000;  // the longest, where there is no law
  std::optional<StepLaw> law;
  int64_t failures = 0;                   // one row in so many fails; 0: none
  std::optional<int64_t> throws_at_step;  // the step at which the model stops working
  bool repeats_itself = false;            // every text: see history.h
};

class SimulatedRunner : public StepRunner {
 public:
  SimulatedRunner(const std::vector<KvGroupOptions>& groups, SimulatedRunnerOptions options,
                  VirtualClock& clock, uint64_t seed);

  StepResult& run(const StepInput& input) override;
  // Of a draft model that knows most of what is said, and whose slots are its own.
  std::span<const TokenId> draft(const DraftInput& input) override;
  int32_t vocab_size() const override;
  double delay() const override { return delay_; }

  std::function<void(const PlanRow&)> on_row;  // called for each, before any is computed
  // The salt of a sequence's request: whoever reads what was written under another one is found.
  std::function<std::string_view(SequenceId)> salt_of;
  std::unordered_map<SequenceId, RowFailure> failed;
  JudgedSteps judged;
  int64_t num_steps = 0;
  int64_t num_drafts = 0;  // that were right
  // The step at which it stops working; beyond all steps where it does not.
  int64_t stops_at() const { return options_.throws_at_step.value_or(INT64_MAX); }
  std::optional<std::string> found;  // what must not be; the loop takes it for a broken model

 private:
  struct Slot {
    History history = 0;
    TokenId token = -1;
  };
  using Slots = std::vector<std::vector<Slot>>;  // [group][block * 32 + slot]
  static Slot& slot(const ForwardInput& input, size_t group, size_t token, int32_t position,
                    Slots& slots);
  Slot& slot(const ForwardInput& input, size_t group, size_t token, int32_t position) {
    return slot(input, group, token, position, slots_);
  }
  void draft_row(const DraftInput& input, size_t row);
  void take_time(const StepPlan& plan);
  void judge(const StepWork& work, double seconds);
  StepResult compute_step(const StepInput& input);
  // Of the row's tokens; `first` is the row's first in the step's arrays.
  std::vector<History> compute(const ForwardInput& input, const PlanRow& row, size_t first);
  void score_prompt(const StepInput& input, const PlanRow& row, std::span<const History> histories,
                    size_t first, size_t score, RowResult& result) const;
  RowResult choose(const StepInput& input, const PlanRow& row, std::span<const History> histories,
                   size_t first, size_t score);

  const std::vector<KvGroupOptions> groups_;
  const SimulatedRunnerOptions options_;
  VirtualClock& clock_;
  SimulationRandom random_;
  double delay_ = 0.0;
  Slots slots_;
  Slots draft_slots_;  // the draft model's
  std::vector<TokenId> drafts_;
  StepResult result_;
};

}  // namespace tidemill
