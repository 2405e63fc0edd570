#include "scheduler/simulation/scheduler_run.h"

#include <algorithm>

namespace tidemill {

SchedulerRun::SchedulerRun(uint64_t seed, SimulationFault fault)
    : random_(scramble(seed)),
      options_(simulated_options(seed)),
      fault_(fault),
      scheduler_(options_),
      memory_(options_.groups),
      draft_memory_(options_.groups),
      repeats_(texts_repeat(seed)) {
  const bool many_cancels = focus_of(seed) == SimulationFocus::kCancels;
  num_events_ = random_.one_of({500, 2000, 2000, 8000});
  fault_event_ = random_.between(50, 400);
  weights_[0] = random_.between(2, 8);
  weights_[1] = many_cancels ? random_.between(2, 6) : random_.up_to(2);
  weights_[2] = random_.up_to(3);
  weights_[3] = random_.up_to(3);
  weights_[4] = random_.between(4, 16);
  for (const int64_t weight : weights_) sum_of_weights_ += weight;
  cancels_in_step_ = many_cancels ? 4 : random_.one_of({0, 20, 60});
  failures_ = random_.one_of({100, 1000});
  most_alive_ = static_cast<size_t>(random_.one_of({4, 16, 64}));
  // The full audit looks at every block: after each event where there are few.
  const int64_t blocks = options_.groups.front().num_blocks;
  limited_ = random_.one_in(3);
  events_per_audit_ = blocks <= 8 ? 1 : blocks / 2 * random_.one_of({1, 4});
}

void SchedulerRun::note(What what, SequenceId id, int64_t value) {
  ++report_.events;
  const uint64_t event = (static_cast<uint64_t>(what) << 56) ^ (static_cast<uint64_t>(id) << 28) ^
                         static_cast<uint64_t>(value);
  report_.trace = scramble((report_.trace ^ event) + 0x9e3779b97f4a7c15u);
}

SimulatedClient* SchedulerRun::any_client() {
  if (alive_.empty()) return nullptr;
  return alive_[static_cast<size_t>(random_.up_to(static_cast<int64_t>(alive_.size()) - 1))];
}

void SchedulerRun::end(SimulatedClient& of) {
  require(scheduler_.find(of.request.id) == nullptr, "I6: sequence {} has ended and is there",
          of.request.id);
  of.state = ClientState::kEnded;
  of.sequence = nullptr;
  of.tokens = {};
  of.histories = {};
  alive_.erase(std::find(alive_.begin(), alive_.end(), &of));
  if (head_ == &of) head_ = nullptr;
}

bool SchedulerRun::fault_is_due(SimulationFault fault) {
  if (fault != fault_ || fault_done_ || report_.events < fault_event_) return false;
  return fault_done_ = true;
}

void SchedulerRun::happen() {
  int64_t draw = random_.up_to(sum_of_weights_ - 1);
  if ((draw -= weights_[0]) < 0) return arrive();
  if ((draw -= weights_[1]) < 0) return cancel();
  if ((draw -= weights_[2]) < 0) return pause_or_resume();
  if ((draw -= weights_[3]) < 0) return propose();
  step();
}

void SchedulerRun::arrive() {
  if (alive_.size() >= most_alive_) return;
  const auto id = static_cast<SequenceId>(clients_.size() + 1);
  NewSequence request = random_request(random_, options_, id);
  if (!alive_.empty() && random_.one_in(4)) {  // another choice of the same prompt
    const SimulatedClient& leader = *alive_.back();
    request.prompt.assign(leader.tokens.begin(), leader.tokens.begin() + leader.num_prompt_tokens);
    request.prefix_scope = leader.request.prefix_scope;
    request.same_prompt_as = leader.request.id;
  }
  const auto length = static_cast<int64_t>(request.prompt.size());
  if (!scheduler_.fits(length + request.max_new_tokens)) {
    ++report_.refused;
    return note(What::kRefused, id, length);
  }
  SimulatedClient& arrived = clients_.emplace_back(request, repeats_);
  scheduler_.add(std::move(request));
  arrived.sequence = scheduler_.find(id);
  arrived.request.prompt = {};
  alive_.push_back(&arrived);
  note(What::kArrived, id, length);
  audit();
}

void SchedulerRun::cancel() {
  SimulatedClient* victim = any_client();
  if (victim == nullptr) return;
  const SequenceId id = victim->request.id;
  ++report_.cancelled[static_cast<size_t>(victim->state)];
  scheduler_.cancel(id);
  end(*victim);
  note(What::kCancelled, id);
  audit();
  if (random_.one_in(8)) scheduler_.cancel(id);  // the end may have crossed it
}

void SchedulerRun::set_paused(SimulatedClient& of, PauseReason reason, bool paused) {
  const auto bit = static_cast<uint8_t>(1u << static_cast<unsigned>(reason));
  of.pause_reasons =
      static_cast<uint8_t>(paused ? of.pause_reasons | bit : of.pause_reasons & ~bit);
  paused ? scheduler_.pause(of.request.id, reason) : scheduler_.resume(of.request.id, reason);
  report_.paused += paused;
  note(paused ? What::kPaused : What::kResumed, of.request.id, static_cast<int64_t>(reason));
  audit();
}

void SchedulerRun::pause_or_resume() {
  if (random_.one_in(8)) return resume_all();
  SimulatedClient* of = any_client();
  if (of == nullptr) return;
  const auto reason = random_.one_in(4) ? PauseReason::kAdapter : PauseReason::kSlowReader;
  const bool was = (of->pause_reasons >> static_cast<unsigned>(reason)) & 1;
  set_paused(*of, reason, !was);
}

// More may come back at once than there is room for in a step.
void SchedulerRun::resume_all() {
  for (SimulatedClient* of : alive_) {
    for (const PauseReason reason : {PauseReason::kSlowReader, PauseReason::kAdapter}) {
      if (of->paused()) set_paused(*of, reason, false);
    }
  }
}

// For one or, as where drafts come from a model of their own, for everybody.
void SchedulerRun::propose() {
  if (random_.one_in(4)) {
    for (SimulatedClient* of : alive_) propose_for(*of);
  } else if (SimulatedClient* of = any_client()) {
    propose_for(*of);
  }
}

// Drafts of which the first few are right.
void SchedulerRun::propose_for(SimulatedClient& of) {
  std::vector<TokenId> drafts;
  History history = of.histories.back();
  TokenId token = of.tokens.back();
  for (int64_t left = random_.between(0, 8); left > 0; --left) {
    token = of.token_behind(history, token);
    if (random_.one_in(5)) token = (token + 1) % kSimulatedTokens;
    drafts.push_back(token);
    history = extend(history, token);
  }
  note(What::kProposed, of.request.id, static_cast<int64_t>(drafts.size()));
  scheduler_.propose(of.request.id, std::move(drafts));
  audit();
}

// Whoever measures what steps cost may find anything: that they take no time, or that none fits.
void SchedulerRun::change_costs() {
  const auto draw = [&](double most) {
    return random_.one_in(6) ? 0.0 : most * static_cast<double>(random_.up_to(1000)) * 1e-3;
  };
  costs_ = {.limit = random_.one_in(12) ? 0.0 : 1.0,
            .fixed = draw(random_.one_in(6) ? 2.0 : 0.4),
            .decode_token = draw(0.05),
            .decode_key = draw(0.0005),
            .prompt_token = draw(random_.one_in(6) ? 1.0 : 0.02),
            .prompt_key = draw(0.0001),
            .most_prompt_tokens = random_.one_in(3) ? draw(300.0) : 0.0};
}

bool SchedulerRun::step() {
  const auto oldest = std::find_if(alive_.begin(), alive_.end(), [](const SimulatedClient* of) {
    return !of->paused() && of->state == ClientState::kRunning;
  });
  const SequenceId oldest_running = oldest == alive_.end() ? 0 : (*oldest)->request.id;
  if (limited_ && random_.one_in(16)) change_costs();
  const StepPlan plan = scheduler_.next_step(costs_);
  ++report_.steps;
  for (const PlanRow& row : plan.rows) {
    SimulatedClient& of = client(row.sequence);
    require(of.state != ClientState::kEnded, "I13: sequence {} has ended and is planned",
            row.sequence);
    require(!of.paused(), "sequence {} is paused and planned", row.sequence);
    check_scores(of, row);
    of.last_planned = report_.steps;
    note(What::kPlanned, row.sequence, int64_t{row.first_position} << 12 ^ row.num_tokens);
  }
  require(plan.num_score_rows() <= options_.max_score_rows(), "{} score rows in a step of {}",
          plan.num_score_rows(), options_.max_score_rows());
  check_time(plan);
  see_changes(oldest_running);
  check_queue(plan);
  audit(plan);
  if (plan.empty()) {
    check_idle();
    return false;
  }
  if (!plan.draft_rows.empty()) draft(plan);
  const StepResult result = compute(plan);
  if (cancels_in_step_ != 0 && random_.one_in(cancels_in_step_)) cancel();
  settle(plan, result);
  audit(plan);
  return true;
}

// As a draft model does, with a memory of its own: what it has not seen, then its drafts, of which
// it writes all but the last.
void SchedulerRun::draft_row(const DraftRow& row, SimulatedClient& of,
                             std::vector<TokenId>& drafts) {
  const auto size = static_cast<int32_t>(of.tokens.size());
  const int32_t end = row.first_position + row.num_tokens;
  require(row.num_tokens > 0 && end <= size && (row.num_drafts == 0 || end == size),
          "the draft model of sequence {} begins at {} of {}", row.sequence, row.first_position,
          size);
  const auto compute = [&](int32_t first, int32_t count) {
    require(draft_memory_.compute({.first_position = first, .num_tokens = count}, *of.sequence,
                                  of.histories),
            "I5: the draft model of sequence {} reads what is not its own before {}", row.sequence,
            first);
  };
  compute(row.first_position, row.num_tokens);
  TokenId token = of.tokens.back();
  for (int32_t i = 0; i < row.num_drafts; ++i) {
    token = of.token_behind(of.histories.back(), token);
    if (random_.one_in(8)) token = (token + 1) % kSimulatedTokens;
    drafts.push_back(token);
    of.histories.push_back(extend(of.histories.back(), token));
    if (i + 1 < row.num_drafts) compute(size + i, 1);
  }
  of.histories.resize(static_cast<size_t>(size));
  report_.model_drafts += row.num_drafts;
  report_.catching_up += row.num_drafts == 0;
}

void SchedulerRun::draft(const StepPlan& plan) {
  std::vector<TokenId> drafts;
  for (const DraftRow& row : plan.draft_rows) draft_row(row, client(row.sequence), drafts);
  scheduler_.supply_drafts(drafts);
}

RowResult SchedulerRun::compute_row(const PlanRow& row, SimulatedClient& of) {
  const Sequence& sequence = *of.sequence;
  const auto size = static_cast<int32_t>(of.tokens.size());
  const int32_t end = row.first_position + row.num_tokens;
  require(end <= size + static_cast<int32_t>(sequence.drafts.size()),
          "sequence {} has {} tokens, {} drafts and a row up to {}", row.sequence, size,
          sequence.drafts.size(), end);
  // The last token of all says nothing any more; a prompt that is scored alone asks for it.
  require(end < of.longest() || end == of.num_prompt_tokens,
          "sequence {} of at most {} tokens computes up to {}", row.sequence, of.longest(), end);
  const int32_t own = std::min(end, size);
  require(std::equal(of.tokens.begin() + row.first_position, of.tokens.begin() + own,
                     sequence.tokens.begin() + row.first_position),
          "sequence {} would compute tokens that are not its own", row.sequence);
  for (int32_t i = size; i < end; ++i) {
    of.histories.push_back(
        extend(of.histories.back(), sequence.drafts[static_cast<size_t>(i - size)]));
  }
  if (row.first_position > 0 && fault_is_due(SimulationFault::kStrayWrite)) {
    const int32_t last = row.first_position - 1;
    const auto block = static_cast<size_t>(last / kBlockTokens);
    memory_.damage(0, sequence.block_tables[0][block].id(), last % kBlockTokens);
  }
  require(memory_.compute(row, sequence, of.histories),
          "I5: sequence {} reads what is not its own at {}", row.sequence, row.first_position);
  RowResult result{.sequence = row.sequence};
  const int32_t choices = end - row.num_choice_rows();
  for (int32_t i = choices - row.num_prompt_rows; i < choices; ++i) {
    result.prompt.push_back({.token = of.tokens[static_cast<size_t>(i + 1)]});
  }
  for (int32_t i = choices; i < end; ++i) {
    const auto draft = static_cast<size_t>(i - size + 1);
    const TokenId last = i < size ? of.tokens[static_cast<size_t>(i)] : sequence.drafts[draft - 1];
    const TokenId token = of.token_behind(of.histories[static_cast<size_t>(i)], last);
    result.accepted.push_back({.token = token});
    if (i + 1 < end && sequence.drafts[draft] != token) break;
  }
  of.histories.resize(static_cast<size_t>(size));
  return result;
}

StepResult SchedulerRun::compute(const StepPlan& plan) {
  StepResult result;
  result.rows.reserve(plan.rows.size());
  for (const PlanRow& row : plan.rows) {
    RowResult of_row = compute_row(row, client(row.sequence));
    if (row.num_score_rows == 0) continue;
    if (random_.one_in(failures_)) {
      of_row.failure = random_.one_in(2) ? RowFailure::kNotFinite : RowFailure::kOutOfMemory;
    } else if (!of_row.accepted.empty() && client(row.sequence).request.max_new_tokens > 0 &&
               fault_is_due(SimulationFault::kChangedToken)) {
      of_row.accepted.front().token ^= 1;
    }
    result.rows.push_back(std::move(of_row));
  }
  if (!plan.empty() && fault_is_due(SimulationFault::kLeakedBlock)) {
    const Sequence& sequence = *client(plan.rows.front().sequence).sequence;
    leaked_.push_back(sequence.block_tables[0].back().share());
  }
  return result;
}

void SchedulerRun::receive_scores(SimulatedClient& of, const PlanRow& row) {
  report_.scored_in_parts += of.num_scored > 0;
  report_.scored_later += of.num_scored > 0 && of.num_preemptions > 0;
  of.num_scored += row.num_prompt_rows;
  report_.scored_prompts += of.has_all_scores();
}

// What a row brought its client; how it must end with that, if it must.
std::optional<EndReason> SchedulerRun::receive(SimulatedClient& of, const RowResult& row,
                                               int32_t taken) {
  require(of.has_all_scores(), "sequence {} goes on and {} positions of {} were scored",
          row.sequence, of.num_scored, of.num_prompt_tokens);
  if (of.request.max_new_tokens == 0) return EndReason::kLength;
  std::optional<EndReason> end;
  report_.dropped_tokens += static_cast<int64_t>(row.accepted.size()) - taken;
  report_.accepted_drafts += taken - 1;
  for (int32_t t = 0; t < taken; ++t) {
    require(!end, "sequence {} goes on behind its end", row.sequence);
    if (fault_is_due(SimulationFault::kLostToken)) continue;
    const TokenId token = row.accepted[static_cast<size_t>(t)].token;
    require(of.receive(token, end), "I14: sequence {} says {}, which is not its next token",
            row.sequence, token);
  }
  return end;
}

void SchedulerRun::check_end(SimulatedClient& of, std::optional<EndReason> expected,
                             const SequenceEnd* end) const {
  require((end != nullptr) == expected.has_value() && (end == nullptr || end->reason == *expected),
          "sequence {} ends as it should not", of.request.id);
  if (end != nullptr) return;  // and `of.sequence` is no more
  require(of.sequence->tokens.size() == of.tokens.size(),
          "I14: sequence {} has received {} tokens of {}", of.request.id, of.tokens.size(),
          of.sequence->tokens.size());
}

void SchedulerRun::settle(const StepPlan& plan, const StepResult& result) {
  const Recorded recorded = scheduler_.commit(result);
  require(recorded.num_tokens.size() == result.rows.size(), "{} rows were recorded of {}",
          recorded.num_tokens.size(), result.rows.size());
  size_t next = 0;
  size_t next_end = 0;
  for (const PlanRow& planned : plan.rows) {
    if (planned.num_score_rows == 0) continue;
    const RowResult& row = result.rows[next];
    const int32_t taken = recorded.num_tokens[next++];
    SimulatedClient& of = client(row.sequence);
    const bool says_nothing = planned.num_choice_rows() == 0 || of.request.max_new_tokens == 0;
    require((taken == 0) == (of.state == ClientState::kEnded || row.failure || says_nothing),
            "sequence {} took {} tokens", row.sequence, taken);
    if (of.state == ClientState::kEnded) continue;
    std::optional<EndReason> expected;
    if (row.failure) {
      expected = EndReason::kFailed;
      ++report_.failed;
      note(What::kFailed, row.sequence);
    } else {
      if (planned.num_prompt_rows > 0 && !fault_is_due(SimulationFault::kLostScores)) {
        receive_scores(of, planned);
      }
      if (planned.num_choice_rows() > 0) expected = receive(of, row, taken);
      if (!expected && taken > 0) report_.refused_drafts += planned.num_choice_rows() - taken;
      note(What::kAnswered, row.sequence,
           int64_t{planned.num_prompt_rows} << 16 ^ int64_t{taken} << 8 ^ of.tokens.back());
    }
    const bool ended =
        next_end < recorded.ends.size() && recorded.ends[next_end].id == row.sequence;
    check_end(of, expected, ended ? &recorded.ends[next_end] : nullptr);
    if (!ended) continue;
    ++next_end;
    if (!row.failure) ++report_.answers;
    end(of);
    note(What::kEnded, row.sequence, static_cast<int64_t>(*expected));
  }
  require(next_end == recorded.ends.size(), "{} ends were told of {}", next_end,
          recorded.ends.size());
}

// Nothing comes any more, nobody is slow: everything ends within the work that is there.
void SchedulerRun::quiet_phase() {
  resume_all();
  cancels_in_step_ = 0;
  int64_t bound = 0;
  for (const SimulatedClient* of : alive_) {
    // Without protection only the newer give way to the older: once per token of each older one.
    const bool endless = options_.max_preemptions > 1000;
    bound += endless ? of->longest() * 1000 : work_left(*of);
  }
  while (!alive_.empty()) {
    require(bound-- > 0, "I11: {} have not ended", alive_.size());
    require(step(), "I10: nothing can run and {} wait", alive_.size());
  }
  audit_everything();
  const SchedulerCounts counts = scheduler_.counts();
  require(counts.held_blocks == 0, "{} blocks are held and nobody is there", counts.held_blocks);
  require(scheduler_.next_step().empty(), "nobody is there and something is planned");
  const int64_t cancelled = report_.cancelled[0] + report_.cancelled[1] + report_.cancelled[2];
  require(report_.answers + report_.failed + cancelled == static_cast<int64_t>(clients_.size()),
          "I15: {} came, {} were answered, {} failed, {} were cancelled", clients_.size(),
          report_.answers, report_.failed, cancelled);
  report_.hit_tokens = counts.prefix_hit_tokens;
}

SimulationReport SchedulerRun::run() {
  while (report_.events < num_events_) happen();
  quiet_phase();
  return report_;
}

}  // namespace tidemill
