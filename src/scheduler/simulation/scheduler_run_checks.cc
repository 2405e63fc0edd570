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

// Whatever a row computes of a prompt that asked, and nobody has scored, it scores: each position
// once and in order. What was not scored is not taken from anybody.
void SchedulerRun::check_scores(const SimulatedClient& of, const PlanRow& row) const {
  require(of.has_all_scores() || row.first_position <= of.num_scored,
          "sequence {} goes on at {} and was scored up to {}", row.sequence, row.first_position,
          of.num_scored);
  const int32_t wanted = of.num_to_score(row.first_position, row.first_position + row.num_tokens);
  require(row.num_prompt_rows == wanted,
          "sequence {} scores {} positions of its prompt from {} on, and should score {}",
          row.sequence, row.num_prompt_rows, of.num_scored, wanted);
  const bool last = row.first_position + row.num_tokens >= static_cast<int32_t>(of.tokens.size());
  require((row.num_choice_rows() > 0) == last, "sequence {} has {} rows to choose at {}",
          row.sequence, row.num_choice_rows(), row.first_position);
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

// who was preempted comes before who has not begun. Among those the older one comes first;
// among the others the one of the lower number, and among equals the older one.
void SchedulerRun::check_queue(const StepPlan& plan) {
  const SimulatedClient* waiting_queued = nullptr;
  const SimulatedClient* waiting_preempted = nullptr;
  const SimulatedClient* left_out = nullptr;  // runs, and has no row
  const SimulatedClient* let_in = nullptr;
  const SimulatedClient* last_new = nullptr;  // of those let in that had not begun
  const auto is_before = [](const SimulatedClient& a, const SimulatedClient& b) {
    return a.request.priority != b.request.priority ? a.request.priority < b.request.priority
                                                    : a.request.id < b.request.id;
  };
  for (SimulatedClient* of : alive_) {
    if (of->state == ClientState::kRunning) {
      if (!of->paused() && of->last_planned != report_.steps) left_out = of;
      continue;
    }
    const bool queued = of->state == ClientState::kQueued;
    if (!of->sequence->block_tables.front().empty()) {
      require(queued || waiting_preempted == nullptr, "Q-9: sequence {} was let in before {}",
              of->request.id, waiting_preempted == nullptr ? 0 : waiting_preempted->request.id);
      of->state = ClientState::kRunning;
      let_in = of;
      if (queued && (last_new == nullptr || is_before(*last_new, *of))) last_new = of;
      if (of->request.id > head_newest_) head_bound_ += work_left(*of);
    } else if (!may_start(*of)) {
      continue;
    } else if (!queued) {
      if (waiting_preempted == nullptr) waiting_preempted = of;
    } else if (waiting_queued == nullptr || is_before(*of, *waiting_queued)) {
      waiting_queued = of;
    }
  }
  require(last_new == nullptr || waiting_queued == nullptr || is_before(*last_new, *waiting_queued),
          "Q-9: sequence {} was let in before {}", last_new == nullptr ? 0 : last_new->request.id,
          waiting_queued == nullptr ? 0 : waiting_queued->request.id);
  report_.overtakings += last_new != nullptr && waiting_queued != nullptr &&
                         waiting_queued->request.id < last_new->request.id;
  require(last_new == nullptr || waiting_preempted == nullptr,
          "Q-9: somebody was let in before {}, which was preempted",
          waiting_preempted == nullptr ? 0 : waiting_preempted->request.id);
  // Newcomers would take its share of the next steps, too.
  require(let_in == nullptr || left_out == nullptr,
          "I11: sequence {} was let in and {} got nothing in this step",
          let_in == nullptr ? 0 : let_in->request.id,
          left_out == nullptr ? 0 : left_out->request.id);
  check_waiting(waiting_preempted != nullptr ? waiting_preempted : waiting_queued, plan);
}

// I11: while somebody waits at the head of the queue nobody is let in but those of a lower number,
// so every step takes at least a token off the work of those who were there already, and of these.
void SchedulerRun::check_waiting(const SimulatedClient* head, const StepPlan& plan) {
  if (head != head_) {
    head_ = head;
    head_steps_ = 0;
    head_bound_ = work_left_but(head);
    head_newest_ = static_cast<SequenceId>(clients_.size());
  } else if (head != nullptr && !plan.empty()) {
    report_.longest_wait = std::max(report_.longest_wait, ++head_steps_);
    require(head_steps_ <= head_bound_, "I11: sequence {} has waited {} steps at the head",
            head->request.id, head_steps_);
  }
  if (head != nullptr && report_.events >= next_audit_) check_places(*head, plan);
}

// Prompts take the time that a step has left, but for a block of one, so that they go on. The last
// token of a prompt is planned as a prompt's and costs what a decode does, hence one more. Prompts
// that cost nothing are not cut.
void SchedulerRun::check_time(const StepPlan& plan) {
  const StepWork work = plan.work();
  if (costs_.limit <= 0.0 || work.prompt_tokens == 0.0) return;
  require(costs_.most_prompt_tokens == 0.0 ||
              work.prompt_tokens <= std::max<double>(costs_.most_prompt_tokens, kBlockTokens),
          "prompts take {} tokens of {}", work.prompt_tokens, costs_.most_prompt_tokens);
  if (costs_.prompt_token == 0.0 && costs_.prompt_key == 0.0) return;
  double one_more = 0.0;
  for (const PlanRow& row : plan.rows) {
    if (row.num_tokens > 1 || !row.is_decode()) continue;
    one_more =
        std::max(one_more, costs_.decode_token +
                               costs_.decode_key * static_cast<double>(row.num_keys(plan.window)));
  }
  const bool is_within = cost_of(work, costs_) <= costs_.limit * (1.0 + 1e-9) + one_more;
  ++(is_within ? report_.timed_chunks : report_.least_chunks);
  require(is_within || work.prompt_tokens <= kBlockTokens,
          "prompts take {} tokens in a step that takes {:.3f} of its time", work.prompt_tokens,
          cost_of(work, costs_) / costs_.limit);
}

// a place is not left empty when the first that waits has room for it. What prompts that are
// scored take beyond a row each, and beyond a sixteenth of the tokens, is room, too. Only where
// room is simple to tell: blocks in one group, without a window.
void SchedulerRun::check_places(const SimulatedClient& head, const StepPlan& plan) {
  if (options_.groups.size() != 1 || options_.groups[0].window != 0) return;
  int64_t more_rows = 0;  // of prompts that are scored, beyond one each
  for (const PlanRow& row : plan.rows) more_rows += std::max(row.num_prompt_rows - 1, 0);
  const int64_t more_tokens = std::max<int64_t>(more_rows - options_.max_step_tokens / 16, 0);
  const bool is_mixed = options_.mixed_step_tokens > 0 &&
                        std::any_of(plan.rows.begin(), plan.rows.end(),
                                    [](const PlanRow& row) { return row.is_decode(); });
  const int32_t of_step = is_mixed ? std::min(options_.mixed_step_tokens, options_.max_step_tokens)
                                   : options_.max_step_tokens;
  const int64_t budget = of_step - plan.num_tokens() + more_tokens;
  const int64_t pending = static_cast<int64_t>(head.tokens.size());
  if (plan.rows.size() >= static_cast<size_t>(options_.max_sequences) || pending > budget ||
      plan.num_score_rows() - more_rows >= options_.max_score_rows()) {
    return;
  }
  if (costs_.limit > 0.0) {
    StepWork with_it = plan.work();
    with_it.prompt_tokens += static_cast<double>(pending);
    with_it.prompt_keys += 0.5 * static_cast<double>(pending * (pending + 1));
    if (cost_of(with_it, costs_) > 0.99 * costs_.limit) return;
    const double most = costs_.most_prompt_tokens;
    if (most > 0.0 && with_it.prompt_tokens > most) return;
  }
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
