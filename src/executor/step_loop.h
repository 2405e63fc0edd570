// The loop of a running model: plan, compute, record, answer. Owns the scheduler and everything
// that is known of a sequence while it runs; one thread. What comes in is mail, what goes out are
// stream records.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "executor/executor.h"
#include "executor/executor_metrics.h"
#include "executor/loop_gauges.h"
#include "executor/mailbox.h"
#include "executor/outbox.h"
#include "executor/running_sequences.h"
#include "executor/step_pace.h"
#include "executor/step_tally.h"
#include "executor/stream_table.h"

namespace tidemill {

class StepLoop {
 public:
  StepLoop(StepRunner& runner, const ExecutorOptions& options, ExecutorMetrics& metrics,
           Mailbox& mailbox, StreamTable& streams, LoopGauges& gauges,
           const LoopDriver& driver = {});

  // Turns until stop(), then ends what is left.
  void run();
  // Mail, deadlines and a step, once; waits for mail up to that long first. Returns for how long
  // the next turn may wait. After an exception of the runner every stream, and every one that
  // comes, gets its error; nothing is computed any more. A step that finds no memory
  // (std::bad_alloc) is tried again instead: first without cached prefixes, then without the
  // sequence that came last, and so on. With the 32nd in a row the model has failed.
  std::chrono::milliseconds turn(std::chrono::milliseconds wait);
  void stop();
  // Ends everything that runs with that error; the loop goes on. Any thread.
  void abort_all(Error error);
  // Forgets cached prefixes that nobody uses, a part at a time. Any thread.
  void shed_cache();
  void check_invariants() const { scheduler_.check_invariants(); }  // the loop's thread; for tests

 private:
  std::chrono::milliseconds live_turn(std::chrono::milliseconds wait);
  void give_up(const std::exception& error);
  struct Computed {  // in the memory of the runner and of the scheduler
    StepResult* result = nullptr;
    const Recorded* recorded = nullptr;
  };
  bool step();
  std::optional<Computed> compute();  // nothing: there is nothing to do
  void measure(const StepPlan& plan, double seconds);
  bool prepare();
  void make_room();
  void beat(std::chrono::steady_clock::duration step);
  void read_mail(std::chrono::milliseconds wait);
  void deliver(StepResult& result, const Recorded& recorded);
  void deliver_row(RowResult& row, int32_t num_tokens, const SequenceEnd* end);
  void deliver_token(SequenceId id, RunningSequence& running, const TokenChoice& token,
                     const SequenceEnd* end);
  void note_scheduled(const StepPlan& plan);
  void handle(Mail& mail);
  void add(Mail& mail);
  void begin(Mail& mail, const StreamTable::Entry& entry);
  void refuse(const Mail& mail, const StreamTable::Entry& entry, const Error& error);
  void drop(SequenceId id, MailKind kind);
  void fail(SequenceId id, const Error& error, EndKind kind);
  void fail_all(const Error& error, std::chrono::milliseconds wait = {});
  void fail_batch(const Error& error);
  void publish();

  StepRunner& runner_;
  const ExecutorOptions& options_;
  ExecutorMetrics& metrics_;
  Mailbox& mailbox_;
  StreamTable& streams_;
  LoopGauges& gauges_;
  const std::function<std::chrono::steady_clock::time_point()> now_;
  Scheduler scheduler_;
  StepInput input_;         // of the last step; its memory is the next one's
  DraftInput draft_input_;  // likewise
  StepPace pace_;
  StepTally tally_;
  RunningSequences running_;
  Outbox outbox_;
  std::vector<Mail> batch_;  // what was taken from the mailbox last
  size_t num_handled_ = 0;   // of it
  int num_starved_ = 0;      // steps in a row that have found no memory
  // Made in time: without memory they could not be.
  const Error engine_failed_;
  const Error unloaded_;
  std::chrono::steady_clock::time_point next_publish_{};
  std::chrono::steady_clock::time_point next_starved_log_{};
  std::atomic<bool> stopping_{false};
  std::atomic<bool> shed_cache_{false};
  std::mutex abort_mutex_;
  std::optional<Error> abort_error_;
  std::atomic<bool> has_abort_error_{false};  // looked at before the lock is taken
};

}  // namespace tidemill
