// A model measured through its real loop, without a server: prefill apart from decode, each round
// between two probes of the machine. Prompts are token ids that no other shares; ends of sequence
// are ignored.
#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "kernels/arithmetic_probe.h"
#include "loaded_model.h"
#include "measure/machine_probe.h"
#include "measure/step_work.h"

namespace tidemill {

struct DecodeRounds {
  std::vector<Round> rounds;  // none: every sequence ended before the first was over
  double mean_context = 0.0;  // positions before a token, over all rounds
};

class OfflineBench {
 public:
  // Loads the model, with room for `most_sequences` in a step. Throws std::runtime_error.
  OfflineBench(const Settings& settings, int64_t most_sequences);

  // Why so many sequences of `context` tokens cannot each decode some more; empty when they can.
  // Prefill needs the prompt and one token.
  std::string why_not_prefill(int64_t count, int64_t prompt_tokens) const;
  std::string why_not_decode(int64_t count, int64_t context, int64_t steps) const;

  // `count` prompts at once, one token each. At most kMaxRounds rounds, behind one that is not
  // counted; at least kMinRounds, and then no more once `seconds` have passed.
  std::vector<Round> prefill(int64_t count, int64_t prompt_tokens, double seconds);

  // Rounds of `steps` steps while all sequences decode: their prompts are computed once. Rounds end
  // as above, `seconds` counted from the first.
  DecodeRounds decode(int64_t count, int64_t context, int64_t steps, double seconds);

  const Model& model() const { return *model_->model(); }
  const Kernels& kernels() const { return kernels_; }
  int num_threads() const { return workers_.num_threads(); }
  int64_t max_model_len() const { return model_->facts().limits.max_model_len; }
  int64_t max_step_tokens() const { return max_step_tokens_; }
  int64_t num_blocks() const { return model_->executor().stats().total_blocks; }

 private:
  ResponseStream submit(int64_t prompt_tokens, int64_t new_tokens);
  Round prefill_round(int64_t count, int64_t prompt_tokens);
  // Tokens that a sequence may need while the others are prefilled, and in all rounds.
  int64_t prefill_steps(int64_t count, int64_t context) const;
  int64_t measured_tokens(int64_t count, int64_t context, int64_t steps) const;
  std::string why_not(int64_t count, int64_t tokens) const;
  void wait_until_idle();

  const Kernels& kernels_;
  WorkerPool workers_;
  MetricsRegistry metrics_;
  std::unique_ptr<LoadedModel> model_;
  ArithmeticProbe arithmetic_;  // of the variant that is measured
  MachineProbe probe_;
  ModelCost cost_;
  int64_t max_step_tokens_;
  std::mt19937_64 random_{1};
};

}  // namespace tidemill
