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

struct SimulatedRunnerOptions {
  int64_t step_us = 1000;                 // the longest
  int64_t failures = 0;                   // one row in so many fails; 0: none
  std::optional<int64_t> throws_at_step;  // the step at which the model stops working
  bool repeats_itself = false;            // every text: see history.h
};

class SimulatedRunner : public StepRunner {
 public:
  SimulatedRunner(const std::vector<KvGroupOptions>& groups, SimulatedRunnerOptions options,
                  VirtualClock& clock, uint64_t seed);

  StepResult run(const StepInput& input) override;
  int32_t vocab_size() const override;

  std::function<void(const PlanRow&)> on_row;  // called for each, before any is computed
  // The salt of a sequence's request: whoever reads what was written under another one is found.
  std::function<std::string_view(SequenceId)> salt_of;
  std::unordered_map<SequenceId, RowFailure> failed;
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
  Slot& slot(const ForwardInput& input, size_t group, size_t token, int32_t position);
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
  std::vector<std::vector<Slot>> slots_;  // [group][block * 32 + slot]
};

}  // namespace tidemill
