// One run of the front door's simulation. Private to executor/simulation/.
#pragma once

#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/metrics.h"
#include "executor/simulation/front_client.h"
#include "executor/simulation/front_simulation.h"
#include "scheduler/simulation/random.h"

namespace tidemill {

class FrontRun {
 public:
  FrontRun(uint64_t seed, FrontFault fault, StarvedTurn starved);
  FrontReport run();

 private:
  template <typename... Values>
  void require(bool condition, fmt::format_string<Values...> text, Values&&... values) const {
    if (condition) [[likely]]
      return;
    throw SimulationFailure(format("event {}, step {}: ", report_.events, runner_->num_steps) +
                            format(text, std::forward<Values>(values)...));
  }
  void note(uint64_t what, uint64_t value);

  // Events.
  void happen();
  void submit();
  void read(FrontClient& client);
  void leave(FrontClient& client);
  void turn();
  void leap();  // of the clock, as when the machine slept
  void quiet_phase();

  // What submit() must answer; nothing: a stream.
  std::optional<ErrorKind> expected_refusal(const GenerationFields& fields,
                                            std::vector<int64_t>& rooms) const;
  void count_refusal(ErrorKind kind);
  void check_row(const PlanRow& row);
  void check_error(const FrontClient& client, const Error& error);
  void end(FrontClient& client);
  void check_counters() const;
  int64_t count(const std::string& name) const;
  int64_t in_system() const { return submitted_ - executor_->stats().ended; }
  int64_t pause_tokens() const;
  bool is_over(const FrontClient& client, VirtualClock::Time at) const;
  FrontClient* any_client();
  FrontClient& client_of(SequenceId id) { return *by_sequence_.at(static_cast<size_t>(id - 1)); }

  SimulationRandom random_;
  const FrontFault fault_;
  const StarvedTurn starved_;
  const bool repeats_;  // every text
  ExecutorOptions options_;
  VirtualClock clock_;
  VirtualClock::Time last_turn_;
  bool has_text_;
  int64_t num_events_;
  int64_t weights_[5];  // submit, read, leave, turn, leap
  int64_t sum_of_weights_ = 0;
  int64_t drain_at_ = -1;  // events; -1: not
  int64_t abort_at_ = -1;
  bool aborted_ = false;
  bool draining_ = false;
  bool broken_ = false;
  bool may_starve_;

  MetricsRegistry registry_;
  SimulatedRunner* runner_ = nullptr;  // the executor's
  std::unique_ptr<Executor> executor_;
  std::deque<FrontClient> clients_;
  std::vector<FrontClient*> alive_;        // have a stream that has not ended
  std::vector<FrontClient*> by_sequence_;  // number id - 1
  SequenceId next_sequence_ = 1;
  int64_t submitted_ = 0;  // sequences that took a place
  int64_t at_once_ = 0;    // sequences with nothing to generate
  FrontReport report_;
};

}  // namespace tidemill
