// Computes a step: forward and the choice of tokens. Two implementations: the network
// (network_runner.h) and a script that stands in for it (script_runner.h), so that scheduling,
// streaming, framing, cancellation and limits are tested without weights.
// Used by the loop's thread alone.
#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>

#include "executor/draft_input.h"
#include "executor/step_input.h"

namespace tidemill {

// How far ahead a runner prepares: for some steps, where one is about to run, or, while nothing
// does, for as many as there may be.
enum class Ahead { kSomeSteps, kManySteps };

class StepRunner {
 public:
  virtual ~StepRunner() = default;

  // What the loop's thread calls once, before its first step.
  virtual void enter_thread() {}

  // One RowResult per plan row that asked for scores, valid until the next call; what they hold may
  // be taken. An exception ends the loop: every stream gets its error record first.
  virtual StepResult& run(const StepInput& input) = 0;

  // Before the run of a step with drafts: those that the draft model makes, one row's behind the
  // other's, valid until the next call. Only where the scheduler's options say that there is one.
  virtual std::span<const TokenId> draft(const DraftInput& /*input*/) {
    throw std::logic_error("drafts are asked for, and there is no draft model");
  }

  // A piece, of a few ms, of what steps would wait for when they use blocks of keys and values
  // anew; behind the first `used_blocks` none was ever used. False: as far ahead as that, it is
  // done.
  virtual bool prepare(int64_t /*used_blocks*/, Ahead /*ahead*/) { return false; }

  // Of the run before: seconds for which strangers kept a worker from its core. 0 where nobody
  // looks.
  virtual double delay() const { return 0.0; }

  virtual int32_t vocab_size() const = 0;
};

}  // namespace tidemill
