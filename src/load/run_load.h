// Sends a workload and measures every answer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "load/answer_reader.h"
#include "load/http_client.h"
#include "load/load_options.h"
#include "load/workload.h"

namespace tidemill {

// One request. Times are seconds since the run began.
struct LoadRecord {
  double due = 0.0;    // open loop: when it arrived; closed loop: when it was sent
  double start = 0.0;  // when it was given to the socket
  double end = 0.0;    // when its answer's last byte was read, or it failed
  int64_t prompt_tokens_sent = 0;
  AnswerFacts answer;

  bool succeeded() const { return answer.failure.empty(); }
  // As the server counted, else as the client knows: the prompt that was sent, and pieces of text.
  int64_t prompt_tokens() const { return answer.prompt_tokens.value_or(prompt_tokens_sent); }
  int64_t completion_tokens() const {
    return answer.completion_tokens.value_or(static_cast<int64_t>(answer.pieces.size()));
  }
};

struct LoadRun {
  std::vector<LoadRecord> records;  // in the order in which they were sent
  double seconds = 0.0;             // from the first request to the last answer
  // The client's own share. A byte that comes while the client is busy waits for at most the rest
  // of one turn: turns bound the delay that the client adds.
  double busy_seconds = 0.0;
  std::vector<double> turns;  // seconds, of the last million turns
};

// `max_concurrency`: closed loop: requests in flight; open loop: arrivals beyond it wait in the
// client (0: none does). Sends until num_prompts or duration_ms, and waits for what is in flight.
LoadRun run_load(HttpClient& client, const Workload& workload, const LoadOptions& options,
                 int64_t max_concurrency, uint64_t seed);

// Sends num_warmups requests and forgets them. Throws std::runtime_error with the reason when none
// succeeded.
void warm_up(HttpClient& client, const Workload& workload, const LoadOptions& options,
             int64_t max_concurrency);

// The first model of /v1/models; nullopt when the server has no such list. Throws
// std::runtime_error when nobody answers.
std::optional<std::string> first_model(HttpClient& client, const std::string& url);

}  // namespace tidemill
