// A script that stands in for the network and the choice of tokens: `serve script:FILE`.
// Scheduler, block pool, streams and server are real; only the arithmetic is not.
//
// The file is JSON (tests/scripts/hello.json is one); a member that is not listed is refused:
//   {"max_model_len": 4096, "num_blocks": 1024, "step_ms": 5, "tick_ms": 50,
//    "rules": [{"when": "weather", "reply": "It rains.", "repeat": 1, "delay_ms": 0,
//               "fail_at": 3, "throw_at": 7, "logprob": -0.5}]}
// A prompt that contains `when` (the first rule that matches; "*" matches all) is answered by the
// bytes of `reply`, `repeat` times, then the end of sequence. `tokens` (a list of ids) may stand
// instead of `reply`. delay_ms is spent on each of its tokens, step_ms on every step; with
// tick_ms a step ends when the monotonic clock shows a multiple of it, so that who reads the clock
// knows when a token was made. At token
// fail_at the row fails as if its logits were not numbers; at throw_at the runner throws. A prompt
// that no rule matches is answered by a few words made from its hash: equal prompts, equal text.
// A prompt's token of id T at position P has the log-probability -0.125 * (1 + (T + P) % 8).
//
// It also checks its callers: it remembers which token was written into which slot of which block,
// and at every score row reads the whole sequence back through the block table. A position that was
// not written, or holds another sequence's token, ends the loop.
//
// Where it is asked for drafts, it is its own draft model, which is wrong about every fifth token;
// what that one has written into its own slots must be what the sequence holds.
#pragma once

#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "executor/step_runner.h"

namespace tidemill {

struct ScriptRule {
  std::string when = "*";
  std::vector<TokenId> reply;  // the end of sequence included
  int64_t delay_ms = 0;
  std::optional<int64_t> fail_at;
  std::optional<int64_t> throw_at;
  float logprob = -0.5f;
};

struct Script {
  int64_t max_model_len = 4096;
  int64_t num_blocks = 1024;
  int64_t step_ms = 0;
  int64_t tick_ms = 0;
  std::vector<ScriptRule> rules;
};

// Throws std::runtime_error that names the file and the member.
Script read_script(const std::filesystem::path& path);

class ScriptRunner : public StepRunner {
 public:
  explicit ScriptRunner(Script script);

  StepResult& run(const StepInput& input) override;
  std::span<const TokenId> draft(const DraftInput& input) override;
  int32_t vocab_size() const override;

 private:
  // A sequence that has been seen at its first score row: where its prompt ends, and its answer.
  struct Answer {
    int32_t prompt_length = 0;
    std::shared_ptr<const ScriptRule> rule;  // shared with the script, unless it was made up
  };

  // By block, then slot: what was written there.
  using Slots = std::vector<std::vector<TokenId>>;

  static void write(const ForwardInput::Group& group, size_t token_row, int32_t position,
                    TokenId token, Slots& slots);
  static void write_tokens(const ForwardInput& forward, Slots& slots);
  static std::vector<TokenId> read_back(const ForwardInput& forward, size_t token_row,
                                        const Slots& slots);
  Answer& answer_for(SequenceId id, const std::vector<TokenId>& tokens);
  bool says_next(const StepInput& input, const PlanRow& row, size_t score, RowResult& result);
  TokenChoice choose(const Answer& answer, const SamplingRow& row,
                     const std::vector<TokenId>& tokens) const;

  const Script script_;
  std::vector<std::shared_ptr<const ScriptRule>> rules_;
  Slots slots_;
  Slots draft_slots_;  // the draft model's
  std::vector<TokenId> drafts_;
  StepResult result_;
  std::unordered_map<SequenceId, Answer> answers_;
  std::deque<SequenceId> oldest_;  // bounds answers_
};

}  // namespace tidemill
