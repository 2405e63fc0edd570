// One run of the scheduler's simulation: the events (scheduler_run.cc) and what must hold after
// each of them (scheduler_run_checks.cc). Private to scheduler/simulation/.
#pragma once

#include <deque>
#include <utility>
#include <vector>

#include "base/check.h"
#include "scheduler/sequence.h"
#include "scheduler/simulation/client.h"
#include "scheduler/simulation/memory.h"
#include "scheduler/simulation/scheduler_simulation.h"

namespace tidemill {

// What an event is.
enum class What : uint8_t {
  kArrived,
  kRefused,
  kCancelled,
  kPaused,
  kResumed,
  kProposed,
  kPlanned,
  kAnswered,
  kFailed,
  kPreempted,
  kEnded,
};

class SchedulerRun {
 public:
  SchedulerRun(uint64_t seed, SimulationFault fault);
  SimulationReport run();

 private:
  template <typename... Values>
  void require(bool condition, fmt::format_string<Values...> text, Values&&... values) const {
    if (condition) [[likely]]
      return;
    throw SimulationFailure(format("event {}, step {}: ", report_.events, report_.steps) +
                            format(text, std::forward<Values>(values)...));
  }
  void note(What what, SequenceId id, int64_t value = 0);
  void audit(const StepPlan& plan = {});
  void audit_everything();

  // Events.
  void happen();
  void arrive();
  void cancel();
  void pause_or_resume();
  void resume_all();
  void set_paused(SimulatedClient& client, PauseReason reason, bool paused);
  void propose();
  void propose_for(SimulatedClient& client);
  bool step();  // false when nothing could run
  void quiet_phase();

  // A step.
  void see_changes(SequenceId oldest_running);
  void change_costs();
  void check_time(const StepPlan& plan);
  void check_scores(const SimulatedClient& client, const PlanRow& row) const;
  void check_victims() const;
  void check_queue(const StepPlan& plan);
  void check_waiting(const SimulatedClient* head, const StepPlan& plan);
  void check_places(const SimulatedClient& head, const StepPlan& plan);
  void check_idle() const;
  void draft(const StepPlan& plan);
  void draft_row(const DraftRow& row, SimulatedClient& client, std::vector<TokenId>& drafts);
  StepResult compute(const StepPlan& plan);
  RowResult compute_row(const PlanRow& row, SimulatedClient& client);
  void settle(const StepPlan& plan, const StepResult& result);
  void receive_scores(SimulatedClient& client, const PlanRow& row);
  std::optional<EndReason> receive(SimulatedClient& client, const RowResult& row, int32_t taken);
  void check_end(SimulatedClient& client, std::optional<EndReason> expected,
                 const SequenceEnd* end) const;

  SimulatedClient& client(SequenceId id) { return clients_[static_cast<size_t>(id - 1)]; }
  const SimulatedClient& client(SequenceId id) const {
    return clients_[static_cast<size_t>(id - 1)];
  }
  SimulatedClient* any_client();
  void end(SimulatedClient& client);
  bool may_start(const SimulatedClient& client) const;
  bool is_protected(const SimulatedClient& client) const {
    return client.num_preemptions >= options_.max_preemptions;
  }
  int64_t work_left(const SimulatedClient& client) const;
  int64_t work_left_but(const SimulatedClient* but) const;
  bool fault_is_due(SimulationFault fault);

  SimulationRandom random_;
  const SchedulerOptions options_;
  const SimulationFault fault_;
  int64_t fault_event_ = 0;
  bool fault_done_ = false;
  int64_t num_events_;
  int64_t events_per_audit_;
  int64_t next_audit_ = 0;
  int64_t weights_[5];  // of what happens: arrive, cancel, pause or resume, propose, step
  int64_t sum_of_weights_ = 0;
  int64_t cancels_in_step_;  // one step in so many; 0: none
  int64_t failures_;         // one row in so many
  size_t most_alive_;
  bool limited_;     // the time of steps
  StepCosts costs_;  // as somebody has measured them so far

  Scheduler scheduler_;
  SimulatedMemory memory_;
  SimulatedMemory draft_memory_;  // of the draft model
  const bool repeats_;            // every text: see history.h
  std::vector<BlockRef> leaked_;
  std::deque<SimulatedClient> clients_;    // number id - 1
  std::vector<SimulatedClient*> alive_;    // in order of arrival
  const SimulatedClient* head_ = nullptr;  // of the queue, since head_steps_ steps
  int64_t head_steps_ = 0;
  int64_t head_bound_ = 0;
  SequenceId head_newest_ = 0;  // the newest of those whose work is in that bound
  SimulationReport report_;
};

}  // namespace tidemill
