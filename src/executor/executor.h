// A loaded model with its loop: the front door. submit() gives a stream; one thread per executor
// plans, computes, records and answers. Nothing is global: two executors live side by side.
//
// Thread-safe. Shared between threads are only the mailbox into the loop and the streams out of it.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/metrics.h"
#include "executor/generation_request.h"
#include "executor/response_stream.h"
#include "executor/step_runner.h"
#include "scheduler/scheduler.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace tidemill {

// What a step reads, and how fast the machine reads: for the share of it that steps reach.
struct ReadLimits {
  int64_t weight_bytes = 0;        // of every step
  int64_t kv_bytes_per_token = 0;  // of every token that a row of the plan attends
  int64_t window = 0;              // tokens that a token attends to at most; 0: all before it
  double bytes_per_second = 0.0;   // a plain read of all workers (calibration.h); 0: not known
};

struct ExecutorOptions {
  SchedulerOptions scheduler;
  int64_t max_model_len = 0;
  int64_t max_step_ms = 0;  // prompts take no more of a step than fits (step_pace.h); 0: no limit
  int64_t job_queue_size = 1000;  // sequences that may wait; the next is refused
  int64_t queue_timeout_ms = 120'000;
  int64_t request_timeout_ms = 600'000;
  int64_t step_watchdog_ms = 10'000;  // see step_watchdog.h
  int64_t predict_timeout_ms = 120'000;
  int64_t stalled_step_exit_ms = 0;         // ends the process; 0: never
  int64_t stream_pause_bytes = 256 * 1024;  // unread text at which a sequence pauses
  int64_t stream_resume_bytes = 128 * 1024;
  // Log-probabilities are of the unmodified logits ("raw") or of what was drawn from ("processed").
  std::string logprobs_mode = "raw";
  int64_t busy_log_ms = 10'000;         // between two lines that say what was done; 0: none
  std::string kv_cache_dtype = "auto";  // as it was set, for the metrics
  ReadLimits read;
  RequestLimits request;  // its counts; what the model decides is set from the model
};

// What the executor needs to know about text; absent parts mean token-id prompts only.
struct TextParts {
  std::shared_ptr<const Tokenizer> tokenizer;  // shared by the streams that outlive a reload
  std::shared_ptr<const ChatTemplate> chat_template;
  std::vector<TokenId> end_ids;
  std::optional<TokenId> begin_id;  // of two in front of a prompt, one is dropped
};

struct ExecutorStats {
  int64_t running = 0;
  int64_t waiting = 0;
  int64_t held_blocks = 0;
  int64_t cached_blocks = 0;
  int64_t total_blocks = 0;
  bool prepared = false;                              // idle, and nothing is left to do ahead
  int64_t ended = 0;                                  // sequences, since the start
  std::chrono::steady_clock::time_point heartbeat{};  // last step or idle tick
  bool stalled = false;  // no step has completed, and no idle tick, for the watchdog time
  bool failed = false;   // the loop has ended with an exception
};

// Whose time the loop goes by, and who lets it go on. A simulation runs all in one thread, by a
// clock of its own.
struct LoopDriver {
  std::function<std::chrono::steady_clock::time_point()> now = &std::chrono::steady_clock::now;
  bool own_thread = true;  // false: the caller's turn()
};

class Executor {
 public:
  // `metrics` outlives this; `model_name` is its label.
  Executor(std::unique_ptr<StepRunner> runner, TextParts text, const ExecutorOptions& options,
           MetricsRegistry& metrics, std::string model_name, const LoopDriver& driver = {});
  // Ends what runs (each stream gets its ending), then joins the loop.
  ~Executor();

  // On the caller's thread: renders, encodes, checks lengths (three numbers in the message), takes
  // a place in the queue (kQueueFull), hands the tokens to the loop. Its times count from
  // `arrival`: whoever let the request wait before, says since when.
  Result<ResponseStream> submit(const GenerationRequest& request,
                                RequestTimes::Time arrival = std::chrono::steady_clock::now());

  // The ids of the request's first prompt, as submit() would use them; nothing else happens.
  Result<std::vector<TokenId>> encode(const GenerationRequest& request) const;

  // Refuses new requests (kDraining); running ones go on.
  void drain();
  bool idle() const;  // nothing running, nothing waiting
  // Ends everything that still runs with that error, when the step that is computed has ended.
  void abort_all(Error error);
  // Answers everything that has no ending yet with that error, from this thread: for when a step
  // does not come back. What the loop says behind it nobody hears.
  void answer_all(Error error);
  // Ends what runs and the loop. False: a step has not come back within that time. Then this cannot
  // be destroyed before it does, and the program can only be left.
  bool stop(std::chrono::milliseconds wait);

  // Forgets cached prefixes that nobody uses, a part at a time; what runs is untouched.
  void shed_cache();

  // Without a thread of its own: mail, deadlines and a step, once. Returns for how long a loop
  // would now wait for mail.
  std::chrono::milliseconds turn();
  void check_invariants() const;  // the scheduler's; between turns

  RequestLimits limits() const;
  // Of a stream, unread here or unsent by its reader: beyond them nothing more is made.
  int64_t stream_pause_bytes() const;
  ExecutorStats stats() const;  // touches no lock of the loop
  const TextParts& text() const;

  struct State;

 private:
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
