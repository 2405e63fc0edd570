// The sequences that the loop has let in: their streams, times, counts and deadlines. Each is
// counted once when it ends. Used by the loop's thread. Private to executor/.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "executor/build_input.h"
#include "executor/executor.h"
#include "executor/executor_metrics.h"
#include "executor/loop_gauges.h"
#include "executor/mailbox.h"
#include "executor/stream_table.h"

namespace tidemill {

struct RunningSequence {
  std::shared_ptr<StreamQueue> stream;  // shared with its reader and the other choices
  int32_t stream_choice = 0;            // its number in the stream: prompt index * n + choice
  SequenceSampling sampling;
  RequestTimes times;
  int64_t prompt_tokens = 0;
  int64_t cached_tokens = 0;  // of its prompt, counted for one choice; told with the first token
  int64_t max_new_tokens = 0;
  int64_t new_tokens = 0;
  std::vector<TokenChoice> prompt_scores;  // so far; told with the first token

  bool has_begun() const { return times.first_scheduled != RequestTimes::Time{}; }
  bool has_spoken() const { return times.first_token != RequestTimes::Time{}; }
};

class RunningSequences {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // All outlive this.
  RunningSequences(const ExecutorOptions& options, ExecutorMetrics& metrics, StreamTable& streams,
                   LoopGauges& gauges);

  // Takes of the mail what the scheduler has no use for.
  void begin(Mail& mail, const StreamTable::Entry& entry);
  void forget(SequenceId id) { running_.erase(id); }  // one whose beginning failed
  RunningSequence* find(SequenceId id);               // null where it has ended
  RunningSequence& at(SequenceId id) { return running_.at(id); }
  bool contains(SequenceId id) const { return running_.contains(id); }
  bool empty() const { return running_.empty(); }
  size_t size() const { return running_.size(); }
  SequenceId any() const { return running_.begin()->first; }
  SequenceId newest() const;  // of at least one

  // It is gone with that, its stream from the table, too, and counted.
  void finish(SequenceId id, EndKind kind);
  void count_refused();  // one that was never here

  // Hands on whose time is over, with what to say; `end` ends it, and nobody else. Looks at
  // everybody only when the nearest deadline has passed: then at once, so that nobody takes part in
  // a step behind its own.
  void expire(Time now, const std::function<void(SequenceId, const Error&)>& end);

 private:
  // Null: it may go on.
  const Error* expired(const RunningSequence& running, Time now);
  void count_end(const EndedSequence& ended);

  const ExecutorOptions& options_;
  ExecutorMetrics& metrics_;
  StreamTable& streams_;
  LoopGauges& gauges_;
  std::unordered_map<SequenceId, RunningSequence> running_;
  Time next_expiry_ = Time::max();  // nobody's deadline comes before it
  const Error too_late_to_begin_;
  const Error too_late_to_end_;
};

}  // namespace tidemill
