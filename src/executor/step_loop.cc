#include "executor/step_loop.h"

#include <algorithm>
#include <exception>
#include <iterator>
#include <new>
#include <stdexcept>
#include <utility>

#include "base/check.h"
#include "base/log.h"
#include "executor/build_input.h"
#include "executor/ending_errors.h"
#include "executor/step_watchdog.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kIdleWait{200};        // between heartbeats when nothing runs
constexpr std::chrono::milliseconds kBlockedWait{20};      // when what is there cannot run (paused)
constexpr std::chrono::milliseconds kPublishInterval{20};  // counting cached blocks takes a while
// One without memory is tried again, after kBlockedWait; so often in a row, until the model has
// failed.
constexpr int kMostStarvedSteps = 32;
constexpr std::chrono::seconds kStarvedLogInterval{10};  // of quiet, between two lines
constexpr int64_t kBlocksToShed = 4096;                  // between two steps: nobody shall feel it

// Without memory even for that, the gauges and the endings say it alone.
void log_end(const std::exception& error) noexcept {
  try {
    log_error("the step loop ended: {}", error.what());
  } catch (const std::exception&) {
  }
}

void log_starved() noexcept {
  try {
    log_warning("a step found no memory; cached prefixes are dropped and it is tried again");
  } catch (const std::exception&) {
  }
}

}  // namespace

StepLoop::StepLoop(StepRunner& runner, const ExecutorOptions& options, ExecutorMetrics& metrics,
                   Mailbox& mailbox, StreamTable& streams, LoopGauges& gauges,
                   const LoopDriver& driver)
    : runner_(runner),
      options_(options),
      metrics_(metrics),
      mailbox_(mailbox),
      streams_(streams),
      gauges_(gauges),
      now_(driver.now),
      scheduler_(options.scheduler),
      pace_(options.max_step_ms),
      tally_(options.read, std::chrono::milliseconds(options.busy_log_ms), driver.now()),
      running_(options, metrics, streams, gauges),
      outbox_(options.job_queue_size + options.scheduler.max_sequences),
      engine_failed_(engine_failed_error()),
      unloaded_(unloaded_error()) {
  publish();
}

void StepLoop::stop() {
  stopping_.store(true);
  mailbox_.wake();
}

void StepLoop::abort_all(Error error) {
  {
    const std::lock_guard lock(abort_mutex_);
    abort_error_ = std::move(error);
    has_abort_error_.store(true);
  }
  mailbox_.wake();
}

void StepLoop::shed_cache() {
  shed_cache_.store(true);
  mailbox_.wake();
}

void StepLoop::run() {
  std::chrono::milliseconds wait{0};
  while (!stopping_.load()) wait = turn(wait);
  try {
    fail_all(unloaded_);
  } catch (const std::exception& error) {
    give_up(error);
  }
}

std::chrono::milliseconds StepLoop::turn(std::chrono::milliseconds wait) {
  if (gauges_.failed.load()) {  // somebody may have been let in just before
    fail_all(engine_failed_, wait);
    return kIdleWait;
  }
  try {
    return live_turn(wait);
  } catch (const std::exception& error) {
    give_up(error);
    return kIdleWait;
  }
}

std::chrono::milliseconds StepLoop::live_turn(std::chrono::milliseconds wait) {
  read_mail(wait);
  if (has_abort_error_.load()) {
    std::unique_lock lock(abort_mutex_);
    const std::optional<Error> abort = std::exchange(abort_error_, std::nullopt);
    has_abort_error_.store(false);
    lock.unlock();
    if (abort) fail_all(*abort);
  }
  if (shed_cache_.exchange(false)) scheduler_.drop_cached(kBlocksToShed);
  running_.expire(now_(),
                  [this](SequenceId id, const Error& error) { fail(id, error, EndKind::kError); });
  outbox_.call_readers();
  const auto begin = now_();
  const bool stepped = step();
  beat(stepped ? now_() - begin : Clock::duration{0});
  if (!stepped || now_() >= next_publish_) publish();
  if (stepped || prepare()) return std::chrono::milliseconds{0};
  return running_.empty() ? kIdleWait : kBlockedWait;
}

// What the step left behind cannot be trusted; nobody may wait for it.
void StepLoop::give_up(const std::exception& error) {
  log_end(error);
  gauges_.failed.store(true);
  fail_all(engine_failed_);
  publish();
}

// A step that took longer than the watchdog allows says nothing of how long steps take.
void StepLoop::beat(Clock::duration step) {
  const bool healthy = step < watchdog_time(gauges_, options_);
  if (healthy && step > gauges_.longest_step.load()) gauges_.longest_step.store(step);
  gauges_.heartbeat.store(now_());
}

// Plan, compute and choose, record, answer.
bool StepLoop::step() {
  std::optional<Computed> computed;
  try {
    computed = compute();
  } catch (const std::bad_alloc&) {
    make_room();
    return false;
  }
  num_starved_ = 0;
  if (!computed) return false;
  deliver(*computed->result, *computed->recorded);
  return true;
}

// Until its results are recorded nothing of a step counts: what throws std::bad_alloc before can be
// tried again, and each row then says what it would have said.
std::optional<StepLoop::Computed> StepLoop::compute() {
  const StepPlan& plan = scheduler_.next_step(pace_.costs());
  if (plan.empty()) return std::nullopt;
  gauges_.prepared.store(false);
  runner_.prepare(scheduler_.used_blocks(), Ahead::kSomeSteps);
  const auto begin = now_();
  const auto sampling_of = [this](SequenceId id) -> const SequenceSampling& {
    return running_.at(id).sampling;
  };
  if (!plan.draft_rows.empty()) {
    build_draft_input(plan, scheduler_, sampling_of, draft_input_);
    scheduler_.supply_drafts(runner_.draft(draft_input_));
  }
  build_input(plan, scheduler_, sampling_of, input_);
  note_scheduled(plan);
  StepResult& result = runner_.run(input_);
  const Recorded& recorded = scheduler_.commit(result);
  measure(input_.plan, std::chrono::duration<double>(now_() - begin).count());
  return Computed{.result = &result, .recorded = &recorded};
}

// What a step took, to everybody who counts that.
void StepLoop::measure(const StepPlan& plan, double seconds) {
  const auto decode_tokens = static_cast<int64_t>(plan.work().decode_tokens);
  metrics_.step(plan.num_tokens() - decode_tokens, decode_tokens, seconds);
  // A draft model's part is none of the costs that are learned.
  if (plan.draft_rows.empty()) pace_.observe(plan, seconds, runner_.delay());
  if (const auto verdict = pace_.judge(seconds, runner_.delay())) metrics_.limited_step(*verdict);
  tally_.step(plan, seconds);
}

// In pieces, so that who comes meanwhile waits for one of them at most.
bool StepLoop::prepare() {
  if (!running_.empty()) return false;
  const bool more = runner_.prepare(scheduler_.used_blocks(), Ahead::kManySteps);
  gauges_.prepared.store(!more);
  return more;
}

// A step has found no memory. The first time it costs nobody anything; while it happens again, it
// costs the one that came last.
void StepLoop::make_room() {
  scheduler_.drop_plan();
  if (++num_starved_ == kMostStarvedSteps) {
    throw std::runtime_error(format("{} steps in a row have found no memory", kMostStarvedSteps));
  }
  if (num_starved_ == 1) {
    if (now_() >= next_starved_log_) log_starved();
    next_starved_log_ = now_() + kStarvedLogInterval;
    scheduler_.drop_cached(kBlocksToShed);
  } else if (!running_.empty()) {
    fail(running_.newest(), outbox_.no_memory(), EndKind::kError);
    outbox_.call_readers();
  }
}

// The first time that a sequence is in a plan ends its time in the queue.
void StepLoop::note_scheduled(const StepPlan& plan) {
  for (const PlanRow& row : plan.rows) {
    RunningSequence& running = running_.at(row.sequence);
    if (running.has_begun()) continue;
    running.times.first_scheduled = now_();
    if (running.sampling.choice == 0) {
      running.cached_tokens = scheduler_.find(row.sequence)->num_prefix_hit_tokens;
    }
  }
}

// A sequence that there is no memory to answer ends alone.
void StepLoop::deliver(StepResult& result, const Recorded& recorded) {
  auto next_end = recorded.ends.begin();  // in the order of the rows
  for (size_t r = 0; r < result.rows.size(); ++r) {
    RowResult& row = result.rows[r];
    const bool ends = next_end != recorded.ends.end() && next_end->id == row.sequence;
    const SequenceEnd* end = ends ? &*next_end++ : nullptr;
    if (!running_.contains(row.sequence)) continue;
    try {
      deliver_row(row, recorded.num_tokens[r], end);
    } catch (const std::bad_alloc&) {
      fail(row.sequence, outbox_.no_memory(), EndKind::kError);
    }
  }
  outbox_.call_readers();
}

void StepLoop::deliver_row(RowResult& row, int32_t num_tokens, const SequenceEnd* end) {
  RunningSequence& running = running_.at(row.sequence);
  if (row.failure) {
    fail(row.sequence, error_of(*row.failure), EndKind::kError);
    return;
  }
  std::move(row.prompt.begin(), row.prompt.end(), std::back_inserter(running.prompt_scores));
  for (int32_t i = 0; i < num_tokens; ++i) {
    const bool last = i + 1 == num_tokens;
    deliver_token(row.sequence, running, row.accepted[static_cast<size_t>(i)],
                  last ? end : nullptr);
  }
  if (end == nullptr) {
    if (running.stream->left()) drop(row.sequence, MailKind::kCancel);
    return;
  }
  if (num_tokens == 0) {  // its prompt was scored, and that was all
    running.times.first_token = running.times.last_token = now_();
    outbox_.tell(running.stream, {.choice = running.stream_choice,
                                  .end = *end,
                                  .times = running.times,
                                  .prompt = std::move(running.prompt_scores)});
  }
  running_.finish(row.sequence, kind_of(end->reason));
}

void StepLoop::deliver_token(SequenceId id, RunningSequence& running, const TokenChoice& token,
                             const SequenceEnd* end) {
  const auto now = now_();
  if (running.new_tokens++ == 0) {
    running.times.first_token = now;
    metrics_.first_token(running.times);
  } else {
    metrics_.next_token(std::chrono::duration<double>(now - running.times.last_token).count());
  }
  running.times.last_token = now;
  TokenRecord record{.choice = running.stream_choice,
                     .token = token,
                     .times = running.times,
                     .cached_tokens = std::exchange(running.cached_tokens, 0),
                     .prompt = std::exchange(running.prompt_scores, {})};
  if (end != nullptr) record.end = *end;
  const int64_t unread = outbox_.tell(running.stream, std::move(record));
  if (end == nullptr && unread * kBytesPerUnreadToken > options_.stream_pause_bytes) {
    scheduler_.pause(id, PauseReason::kSlowReader);
  }
}

void StepLoop::fail(SequenceId id, const Error& error, EndKind kind) {
  const RunningSequence& running = running_.at(id);
  outbox_.tell_error(running.stream, running.stream_choice, error, running.times);
  scheduler_.cancel(id);
  running_.finish(id, kind);
}

void StepLoop::fail_all(const Error& error, std::chrono::milliseconds wait) {
  fail_batch(error);
  batch_ = mailbox_.take(wait);
  num_handled_ = 0;
  fail_batch(error);
  while (!running_.empty()) fail(running_.any(), error, EndKind::kError);
  outbox_.call_readers();
}

void StepLoop::publish() {
  const SchedulerCounts counts = scheduler_.counts();
  metrics_.update(counts);
  gauges_.running.store(counts.running);
  gauges_.waiting.store(counts.waiting);
  gauges_.held_blocks.store(counts.held_blocks);
  gauges_.cached_blocks.store(counts.cached_blocks);
  gauges_.total_blocks.store(counts.total_blocks);
  if (const std::optional<double> share = tally_.read_share(now_())) {
    metrics_.read_share(*share);
  }
  if (const std::string line = tally_.line(now_(), counts); !line.empty()) log_info("{}", line);
  next_publish_ = now_() + kPublishInterval;
}

}  // namespace tidemill
