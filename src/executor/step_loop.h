// The loop of a running model: plan, compute, record, answer. Owns the scheduler and everything
// that is known of a sequence while it runs; one thread. What comes in is mail, what goes out are
// stream records.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "executor/build_input.h"
#include "executor/executor.h"
#include "executor/executor_metrics.h"
#include "executor/mailbox.h"
#include "executor/stream_queue.h"
#include "executor/stream_table.h"

namespace tidemill {

// What other threads may see of the loop, without a lock.
struct LoopGauges {
  std::atomic<int64_t> running{0}, waiting{0}, held_blocks{0}, cached_blocks{0}, total_blocks{0};
  std::atomic<int64_t> in_system{0};  // sequences submitted and not ended
  std::atomic<int64_t> ended{0};      // sequences, since the start
  std::atomic<std::chrono::steady_clock::time_point> heartbeat{};
  std::atomic<std::chrono::steady_clock::duration> longest_step{};  // of those that were healthy
  std::atomic<bool> failed{false};
};

class StepLoop {
 public:
  StepLoop(StepRunner& runner, const ExecutorOptions& options, ExecutorMetrics& metrics,
           Mailbox& mailbox, StreamTable& streams, LoopGauges& gauges,
           const LoopDriver& driver = {});

  // Turns until stop(), then ends what is left.
  void run();
  // Mail, deadlines and a step, once; waits for mail up to that long first. Returns for how long
  // the next turn may wait. After an exception of the runner every stream, and every one that
  // comes, gets its error; nothing is computed any more.
  std::chrono::milliseconds turn(std::chrono::milliseconds wait);
  void stop();
  // Ends everything that runs with that error; the loop goes on. Any thread.
  void abort_all(Error error);
  // Forgets cached prefixes that nobody uses, a part at a time. Any thread.
  void shed_cache();
  void check_invariants() const { scheduler_.check_invariants(); }  // the loop's thread; for tests

 private:
  struct Running {
    std::shared_ptr<StreamQueue> stream;
    int32_t stream_choice = 0;  // its number in the stream: prompt index * n + choice
    SequenceSampling sampling;
    RequestTimes times;
    int64_t prompt_tokens = 0;
    int64_t cached_tokens = 0;  // of its prompt, counted for one choice; told with the first token
    int64_t max_new_tokens = 0;
    int64_t new_tokens = 0;
    std::vector<TokenChoice> prompt_scores;  // so far; told with the first token
  };

  std::chrono::milliseconds live_turn(std::chrono::milliseconds wait);
  void give_up(const std::exception& error);
  bool step();
  void beat(std::chrono::steady_clock::duration step);
  void read_mail(std::chrono::milliseconds wait);
  void deliver(StepResult result, const Recorded& recorded);
  void deliver_row(RowResult& row, int32_t num_tokens, const SequenceEnd* end);
  void deliver_token(SequenceId id, Running& running, const TokenChoice& token,
                     const SequenceEnd* end);
  int64_t tell(const std::shared_ptr<StreamQueue>& stream, TokenRecord record);
  void tell_error(const std::shared_ptr<StreamQueue>& stream, int32_t choice, const Error& error,
                  const RequestTimes& times) noexcept;
  void call_readers() noexcept;
  void note_scheduled(const StepPlan& plan);
  void handle(Mail& mail);
  void add(Mail& mail);
  void begin(Mail& mail, const StreamTable::Entry& entry);
  void refuse(const Mail& mail, const StreamTable::Entry& entry, const Error& error);
  void drop(SequenceId id, MailKind kind);
  void finish(SequenceId id, EndKind kind);
  void fail(SequenceId id, const Error& error, EndKind kind);
  void fail_all(const Error& error, std::chrono::milliseconds wait = {});
  void fail_batch(const Error& error);
  void expire_deadlines();
  void publish();

  StepRunner& runner_;
  const ExecutorOptions& options_;
  ExecutorMetrics& metrics_;
  Mailbox& mailbox_;
  StreamTable& streams_;
  LoopGauges& gauges_;
  const std::function<std::chrono::steady_clock::time_point()> now_;
  Scheduler scheduler_;
  std::unordered_map<SequenceId, Running> running_;
  std::vector<Mail> batch_;                           // what was taken from the mailbox last
  size_t num_handled_ = 0;                            // of it
  std::vector<std::shared_ptr<StreamQueue>> spoken_;  // given something, and not called yet
  // What is left to say when there is no memory to say anything. Made in time.
  const std::shared_ptr<const Error> no_memory_;
  const std::shared_ptr<const Error> engine_failed_;
  const std::shared_ptr<const Error> unloaded_;
  // Nobody's deadline comes before it.
  std::chrono::steady_clock::time_point next_expiry_ = std::chrono::steady_clock::time_point::max();
  std::chrono::steady_clock::time_point next_publish_{};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> shed_cache_{false};
  std::mutex abort_mutex_;
  std::optional<Error> abort_error_;
};

}  // namespace tidemill
