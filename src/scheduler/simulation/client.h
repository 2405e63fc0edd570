// One request of a simulation, seen from outside: what it asked, what it has received, and what it
// must receive next. Knows nothing of the scheduler's decisions but what a client could see.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/scheduler.h"
#include "scheduler/simulation/history.h"
#include "scheduler/simulation/random.h"

namespace tidemill {

// The drawn edges of I9: queued -> running <-> preempted, and from each of them to ended. Paused is
// beside it: a set of reasons.
enum class ClientState : uint8_t { kQueued, kRunning, kPreempted, kEnded };

struct SimulatedClient {
  NewSequence request;             // its prompt has moved into tokens
  std::vector<TokenId> tokens;     // the prompt, then what was received
  std::vector<History> histories;  // of every token
  int32_t num_scored = 0;          // leading positions of the prompt that were scored
  int32_t num_prompt_tokens = 0;
  ClientState state = ClientState::kQueued;
  uint8_t pause_reasons = 0;           // a set: bit r stands for PauseReason r
  int32_t num_preemptions = 0;         // seen so far
  const Sequence* sequence = nullptr;  // the scheduler's; valid until the end
  int64_t last_planned = -1;           // the step that had a row of it

  bool repeats_itself = false;  // see history.h

  SimulatedClient(NewSequence asked, bool repeats);

  bool paused() const { return pause_reasons != 0; }
  int32_t num_received() const { return static_cast<int32_t>(tokens.size()) - num_prompt_tokens; }
  int64_t longest() const { return int64_t{num_prompt_tokens} + request.max_new_tokens; }
  // Of positions [begin, end) those that a row must score: all that are left, each once. The last
  // one of a prompt has no token behind it.
  int32_t num_to_score(int32_t begin, int32_t end) const;
  bool has_all_scores() const { return num_to_score(0, num_prompt_tokens) == 0; }
  TokenId token_behind(History history, TokenId last) const {
    return repeats_itself ? token_of_round(history, last) : tidemill::token_behind(history);
  }
  TokenId next_token() const { return token_behind(histories.back(), tokens.back()); }
  // Takes a token; false when it is not the one that must come. How the sequence ends with it, if
  // it does, is in *end.
  bool receive(TokenId token, std::optional<EndReason>& end);
};

// What clients may ask for: lengths at every border that the options have.
NewSequence random_request(SimulationRandom& random, const SchedulerOptions& options,
                           SequenceId id);

}  // namespace tidemill
