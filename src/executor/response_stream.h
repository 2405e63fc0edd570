// The answer to one request while it is made. Given by Executor::submit; read by one thread at a
// time. Detokenising and the search for stop strings happen on the reader's thread. Destroying the
// stream before its end cancels what still runs.
//
// Choices are numbered prompt index * n + choice.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "base/token_id.h"

namespace tidemill {

// One generated token that a client may see.
struct TokenText {
  TokenId id = 0;
  std::string text;   // decoded in its context; may be empty while a character is incomplete
  std::string bytes;  // the token's own raw bytes; empty for special tokens
  bool special = false;
  float logprob = 0.0f;
  struct Alternative {
    TokenId id;
    std::string text;
    std::string bytes;
    float logprob;
  };
  std::vector<Alternative> top;
};

enum class FinishReason { kEndToken, kStopToken, kStopString, kLength };

struct Finish {
  FinishReason reason = FinishReason::kLength;
  std::optional<std::string> stop_string;  // for kStopString
  std::optional<TokenId> stop_id;          // for kStopToken
  int64_t completion_tokens = 0;           // generated ids, the end-of-sequence id included
};

// New text of one choice, and how it ended if it did. After `finish` a choice has no more events.
struct TextEvent {
  int32_t choice = 0;
  std::string text;  // whole characters; stop strings and what may become one held back
  std::vector<TokenText> tokens;  // the tokens of this event
  std::optional<Finish> finish;
};

// Times of the request so far; zero while the moment has not come.
struct RequestTimes {
  using Time = std::chrono::steady_clock::time_point;
  Time arrival{}, first_scheduled{}, first_token{}, last_token{};
  bool operator==(const RequestTimes&) const = default;
};

class ResponseStream {
 public:
  ResponseStream(ResponseStream&&) noexcept;
  ResponseStream& operator=(ResponseStream&&) noexcept;
  ~ResponseStream();

  // Called from the loop's thread (keep it short; no lock that a reader holds) whenever poll()
  // would return something new. At most one call is outstanding until the next poll(). It should
  // take no memory, for the loop can do no more than call again; throws what StreamQueue's does.
  void on_ready(std::function<void()> notify);

  struct Poll {
    std::vector<TextEvent> events;
    bool ended = false;          // every choice has finished, or `error` is set
    std::optional<Error> error;  // ends the whole request; no more events
  };
  // What has arrived since the last call; never blocks.
  Poll poll();
  // Waits for something to arrive or the end. For the verbs of the command line.
  Poll wait();
  // Stops what still runs. poll() then reports the end with no error.
  void cancel();

  int64_t num_choices() const;
  const std::vector<int64_t>& prompt_tokens() const;  // per prompt
  int64_t cached_tokens() const;  // prompt tokens served from the prefix cache, all prompts
  const std::vector<TokenId>& prompt_ids(int64_t prompt) const;
  // The prompt's tokens with their log-probabilities, where the request asked for those; the first
  // token has none (0, empty `top`). Complete when that prompt's first choice has its first event.
  std::vector<TokenText> prompt_logprobs(int64_t prompt) const;
  // Generated ids of all choices so far, those that best_of leaves out included.
  int64_t completion_tokens() const;
  // The rendered and decoded prompt (for echo and return_full_text) of one prompt.
  std::string prompt_text(int64_t prompt) const;
  uint64_t seed() const;
  RequestTimes times() const;

  struct State;
  explicit ResponseStream(std::unique_ptr<State> state);

 private:
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
