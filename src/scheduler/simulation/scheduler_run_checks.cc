// What must hold after every event of a scheduler's simulation.
#include <algorithm>

#include "scheduler/simulation/scheduler_run.h"

namespace tidemill {

void SchedulerRun::audit(const StepPlan& plan) {
  scheduler_.check_invariants_of(plan);
  if (report_.events >= next_audit_) audit_everything();
}

void SchedulerRun::audit_everything() {
  next_audit_ = report_.events + events_per_audit_;
  ++report_.audits;
  scheduler_.check_invariants();
  const SchedulerCounts counts = scheduler_.counts();
  require(counts.running + counts.waiting == static_cast<int64_t>(alive_.size()),
          "{} run and {} wait of {}", counts.running, counts.waiting, alive_.size());
  require(counts.free_blocks + counts.cached_blocks + counts.held_blocks == counts.total_blocks,
          "I1: {} free, {} cached, {} held of {}", counts.free_blocks, counts.cached_blocks,
          counts.held_blocks, counts.total_blocks);
  for (const SimulatedClient* of : alive_) {
    require(scheduler_.find(of->request.id) == of->sequence, "sequence {} is lost", of->request.id);
    require(of->tokens == of->sequence->tokens, "I14: sequence {} has received {} tokens of {}",
            of->request.id, of->tokens.size(), of->sequence->tokens.size());
  }
}

// of those who may be preempted, the newest give way. Called before what the plan did is
// noted.
void SchedulerRun::check_victims() const {
  const SimulatedClient* spared = nullptr;
  for (auto it = alive_.rbegin(); it != alive_.rend(); ++it) {
    const SimulatedClient& of = **it;
    if (of.state != ClientState::kRunning || is_protected(of)) continue;
    if (of.sequence->num_preemptions == of.num_preemptions) {
      if (spared == nullptr) spared = &of;
    } else {
      require(spared == nullptr || of.paused(), "Q-7: sequence {} was preempted and {} was spared",
              of.request.id, spared == nullptr ? 0 : spared->request.id);
    }
  }
}

// What the plan did to the sequences: whom it preempted, and whom it let in.
void SchedulerRun::see_changes(SequenceId oldest_running) {
  check_victims();
  for (SimulatedClient* of : alive_) {
    const int32_t preemptions = of->sequence->num_preemptions;
    if (preemptions == of->num_preemptions) continue;
    const SequenceId id = of->request.id;
    require(preemptions == of->num_preemptions + 1, "sequence {} was preempted twice in a step",
            id);
    require(!is_protected(*of), "I12: sequence {} is protected and was preempted", id);
    require(id != oldest_running, "I12: sequence {} is the oldest and was preempted", id);
    require(of->state == ClientState::kRunning, "I9: sequence {} was preempted and did not run",
            id);
    of->num_preemptions = preemptions;
    of->state = ClientState::kPreempted;
    ++report_.preemptions;
    note(What::kPreempted, id, preemptions);
  }
}

// False while it waits for something other than room.
bool SchedulerRun::may_start(const SimulatedClient& of) const {
  if (of.paused()) return false;
  if (!of.request.same_prompt_as || of.num_preemptions > 0) return true;
  const SimulatedClient& leader = client(*of.request.same_prompt_as);
  return leader.state == ClientState::kEnded ||
         leader.sequence->num_cached_tokens >= of.num_prompt_tokens;
}

// who was preempted comes before who has not begun, and among either the older one first.
void SchedulerRun::check_queue(const StepPlan& plan) {
  const SimulatedClient* waiting_queued = nullptr;
  const SimulatedClient* waiting_preempted = nullptr;
  const SimulatedClient* left_out = nullptr;  // runs, and has no row
  const SimulatedClient* let_in = nullptr;
  bool is_new = false;  // one that was let in had not begun
  for (SimulatedClient* of : alive_) {
    if (of->state == ClientState::kRunning) {
      if (!of->paused() && of->last_planned != report_.steps) left_out = of;
      continue;
    }
    const bool queued = of->state == ClientState::kQueued;
    const SimulatedClient*& waiting = queued ? waiting_queued : waiting_preempted;
    if (!of->sequence->block_tables.front().empty()) {
      require(waiting == nullptr, "Q-9: sequence {} was let in before {}", of->request.id,
              waiting == nullptr ? 0 : waiting->request.id);
      of->state = ClientState::kRunning;
      let_in = of;
      is_new = is_new || queued;
    } else if (waiting == nullptr && may_start(*of)) {
      waiting = of;
    }
  }
  require(!is_new || waiting_preempted == nullptr,
          "Q-9: somebody was let in before {}, which was preempted",
          waiting_preempted == nullptr ? 0 : waiting_preempted->request.id);
  // Newcomers would take its share of the next steps, too.
  require(let_in == nullptr || left_out == nullptr,
          "I11: sequence {} was let in and {} got nothing in this step",
          let_in == nullptr ? 0 : let_in->request.id,
          left_out == nullptr ? 0 : left_out->request.id);
  check_waiting(waiting_preempted != nullptr ? waiting_preempted : waiting_queued, plan);
}

// I11: while somebody waits at the head of the queue nobody is let in, so every step takes at least
// a token off the work of those who were there already.
void SchedulerRun::check_waiting(const SimulatedClient* head, const StepPlan& plan) {
  if (head != head_) {
    head_ = head;
    head_steps_ = 0;
    head_bound_ = work_left_but(head);
  } else if (head != nullptr && !plan.empty()) {
    report_.longest_wait = std::max(report_.longest_wait, ++head_steps_);
    require(head_steps_ <= head_bound_, "I11: sequence {} has waited {} steps at the head",
            head->request.id, head_steps_);
  }
  if (head != nullptr && report_.events >= next_audit_) check_places(*head, plan);
}

// a place is not left empty when the first that waits has room for it. Only where room is
// simple to tell: blocks in one group, without a window.
void SchedulerRun::check_places(const SimulatedClient& head, const StepPlan& plan) {
  if (options_.groups.size() != 1 || options_.groups[0].window != 0) return;
  const int64_t budget = options_.max_step_tokens - plan.num_tokens();
  const int64_t pending = static_cast<int64_t>(head.tokens.size());
  if (plan.rows.size() >= static_cast<size_t>(options_.max_sequences) || pending > budget) return;
  for (const SimulatedClient* of : alive_) {
    const bool left_out =
        of->state == ClientState::kRunning && !of->paused() && of->last_planned != report_.steps;
    if (left_out) return;
  }
  const SchedulerCounts counts = scheduler_.counts();
  const int64_t tokens = is_protected(head) ? head.longest() : pending;
  const int64_t blocks = (tokens + kBlockTokens - 1) / kBlockTokens;
  require(blocks > counts.free_blocks + counts.cached_blocks,
          "Q-9: sequence {} needs {} blocks, {} can be had, and it waits", head.request.id, blocks,
          counts.free_blocks + counts.cached_blocks);
}

// I10: nothing runs only where nobody could, or where the blocks are held by somebody who is paused
// and protected.
void SchedulerRun::check_idle() const {
  const bool held = std::any_of(alive_.begin(), alive_.end(), [&](const SimulatedClient* of) {
    return of->paused() && of->state == ClientState::kRunning && is_protected(*of);
  });
  for (const SimulatedClient* of : alive_) {
    const bool may_run = of->state == ClientState::kRunning ? !of->paused() : may_start(*of);
    require(held || !may_run, "I10: sequence {} could run and nothing does", of->request.id);
  }
}

// Tokens that may still be computed for it: each once, and once more for every preemption that it
// can suffer.
int64_t SchedulerRun::work_left(const SimulatedClient& of) const {
  const int64_t again = options_.max_preemptions - of.num_preemptions;
  return of.longest() - of.sequence->num_cached_tokens + again * of.longest();
}

int64_t SchedulerRun::work_left_but(const SimulatedClient* but) const {
  int64_t sum = 0;
  for (const SimulatedClient* of : alive_) sum += of == but ? 0 : work_left(*of);
  return sum;
}

}  // namespace tidemill
