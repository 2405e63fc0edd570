#include "executor/simulation/front_run.h"

#include <algorithm>

#include "executor/byte_tokenizer.h"
#include "executor/simulation/front_fields.h"
#include "executor/stream_queue.h"
#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

TextParts text_parts(bool has_text) {
  if (!has_text) return {.end_ids = {kScriptEndId}};
  static const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer_json());
  return {.tokenizer = tokenizer, .end_ids = {kScriptEndId}};
}

ExecutorOptions random_options(SimulationRandom& random, SimulationFocus focus) {
  ExecutorOptions options;
  SchedulerOptions& scheduler = options.scheduler;
  const int64_t blocks = random.one_of({int64_t{1}, random.between(2, 8), random.between(9, 40)});
  scheduler.groups = {{.num_blocks = blocks}};
  if (random.one_in(4)) {
    scheduler.groups.push_back({.num_blocks = blocks, .window = random.between(2, 80)});
  }
  scheduler.max_sequences = static_cast<int32_t>(random.one_of({1, 2, 8, 32}));
  scheduler.max_step_tokens = static_cast<int32_t>(random.one_of({1, 24, 96, 512}));
  scheduler.prefix_cache = !random.one_in(4);
  options.max_model_len = random.one_of({int64_t{64}, blocks * kBlockTokens, int64_t{1000}});
  options.job_queue_size = random.one_of({0, 1, 4, 40});
  options.queue_timeout_ms = random.one_of({20, 1000, 120'000, 120'000});
  options.request_timeout_ms = random.one_of({50, 1000, 600'000, 600'000});
  options.stream_pause_bytes = kBytesPerUnreadToken * random.one_of({1, 3, 10, 4000});
  options.busy_log_ms = 0;
  options.stream_resume_bytes = options.stream_pause_bytes / 2;
  if (focus == SimulationFocus::kOwnDrafts || focus == SimulationFocus::kDraftModel) {
    scheduler.speculative = "ngram";
    scheduler.free_tokens = static_cast<int32_t>(random.one_of({0, 8, 64}));
  }
  if (focus == SimulationFocus::kDraftModel) {
    scheduler.groups = {{.num_blocks = blocks}};
    scheduler.draft_model_cost = random.one_of({0.01, 0.2});
    scheduler.draft_model_len = random.one_of({20, 1000});
  }
  if (random.one_in(3)) scheduler.mixed_step_tokens = static_cast<int32_t>(random.between(1, 256));
  scheduler.min_chunk_tokens = chunk_of_mixed_step(scheduler.mixed_step_tokens);
  if (random.one_in(3)) options.max_step_ms = random.one_of({5, 40, 160});
  return options;
}

}  // namespace

FrontRun::FrontRun(uint64_t seed, FrontFault fault, StarvedTurn starved)
    : random_(scramble(seed + 1)),
      fault_(fault),
      starved_(std::move(starved)),
      repeats_(texts_repeat(seed)),
      options_(random_options(random_, focus_of(seed))) {
  has_text_ = !random_.one_in(4);
  num_events_ = random_.one_of({300, 1000, 3000});
  weights_[0] = random_.between(1, 6);
  weights_[1] = random_.between(1, 12);
  weights_[2] = random_.up_to(2);
  weights_[3] = random_.between(8, 32);
  weights_[4] = random_.one_in(4);
  for (const int64_t weight : weights_) sum_of_weights_ += weight;
  if (random_.one_in(8)) drain_at_ = random_.up_to(num_events_);
  if (random_.one_in(8)) abort_at_ = random_.up_to(num_events_);
  may_starve_ = random_.one_in(8);
  SimulatedRunnerOptions runner{.step_us = random_.one_of({100, 5000, 100'000}),
                                .failures = random_.one_of({0, 200, 20})};
  if (random_.one_in(12)) runner.throws_at_step = random_.between(1, 400);
  runner.repeats_itself = repeats_;
  if (options_.max_step_ms > 0) {
    runner.law = random_law(random_, static_cast<double>(options_.max_step_ms) * 1e-3,
                            options_.scheduler.max_sequences);
  }
  auto made =
      std::make_unique<SimulatedRunner>(options_.scheduler.groups, runner, clock_, random_.next());
  runner_ = made.get();
  runner_->salt_of = [this](SequenceId id) { return client_of(id).salt(); };
  runner_->on_row = [this](const PlanRow& row) { check_row(row); };
  executor_ = std::make_unique<Executor>(
      std::move(made), text_parts(has_text_), options_, registry_, "simulated",
      LoopDriver{.now = [this] { return clock_.now; }, .own_thread = false});
  last_turn_ = clock_.now;
}

void FrontRun::note(uint64_t what, uint64_t value) {
  ++report_.events;
  report_.trace = scramble((report_.trace ^ (what << 56) ^ value) + 0x9e3779b97f4a7c15u);
}

FrontClient* FrontRun::any_client() {
  if (alive_.empty()) return nullptr;
  return alive_[static_cast<size_t>(random_.up_to(static_cast<int64_t>(alive_.size()) - 1))];
}

void FrontRun::happen() {
  clock_.advance(std::chrono::microseconds(random_.up_to(200)));
  if (report_.events >= drain_at_ && drain_at_ >= 0 && !draining_) {
    draining_ = true;
    executor_->drain();
  }
  if (report_.events >= abort_at_ && abort_at_ >= 0 && !aborted_) {
    aborted_ = true;
    executor_->abort_all({.kind = ErrorKind::kDraining, .field = "", .message = "aborted."});
    turn();
  }
  int64_t draw = random_.up_to(sum_of_weights_ - 1);
  if ((draw -= weights_[0]) < 0) return submit();
  if ((draw -= weights_[1]) < 0) {
    if (FrontClient* client = any_client()) read(*client);
    return;
  }
  if ((draw -= weights_[2]) < 0) {
    if (FrontClient* client = any_client()) leave(*client);
    return;
  }
  if ((draw -= weights_[3]) < 0) return turn();
  if (random_.one_in(32)) leap();
}

std::optional<ErrorKind> FrontRun::expected_refusal(const GenerationFields& fields,
                                                    std::vector<int64_t>& rooms) const {
  const auto at_most = static_cast<int64_t>(fields.prompts.size()) *
                       num_running(fields, fields.max_new_tokens.value_or(1));
  const int64_t allowed = options_.job_queue_size + options_.scheduler.max_sequences;
  const auto of_places = [&](int64_t count) -> std::optional<ErrorKind> {
    if (draining_) return ErrorKind::kDraining;
    if (broken_) return ErrorKind::kEngineError;
    if (count > allowed) return ErrorKind::kInvalidParameter;
    if (in_system() + count > allowed) return ErrorKind::kQueueFull;
    return std::nullopt;
  };
  if (const auto refused = of_places(at_most)) return refused;
  const int64_t limit =
      std::min(options_.max_model_len, options_.scheduler.groups.front().num_blocks * kBlockTokens);
  int64_t places = 0;
  for (const Prompt& prompt : fields.prompts) {
    const auto length = static_cast<int64_t>(std::get<TokenPrompt>(prompt).ids.size());
    const int64_t left = limit - length;
    const int64_t asked =
        fields.max_new_tokens.value_or(std::max({left, int64_t{1}, fields.min_new_tokens}));
    if (asked > left && !(fields.clamp_max_new_tokens && left > 0)) {
      return ErrorKind::kPromptTooLong;
    }
    rooms.push_back(std::min(asked, left));
    places += num_running(fields, rooms.back());
  }
  return of_places(places);
}

void FrontRun::count_refusal(ErrorKind kind) {
  report_.full += kind == ErrorKind::kQueueFull;
  report_.too_long += kind == ErrorKind::kPromptTooLong;
  report_.drained += kind == ErrorKind::kDraining;
}

void FrontRun::submit() {
  const GenerationFields fields = random_fields(random_, options_, has_text_);
  const auto request = GenerationRequest::make(fields, {}, executor_->limits());
  const bool empty =
      std::any_of(fields.prompts.begin(), fields.prompts.end(),
                  [](const Prompt& prompt) { return std::get<TokenPrompt>(prompt).ids.empty(); });
  if (!request) {
    require(empty && request.error().kind == ErrorKind::kEmptyPrompt, "refused: {}",
            request.error().message);
    return note(1, 0);
  }
  require(!empty, "a prompt without a token is no request");
  std::vector<int64_t> rooms;
  const auto expected = expected_refusal(fields, rooms);
  auto stream = executor_->submit(*request, clock_.now);
  if (!stream) {
    require(expected == stream.error().kind, "refused, and should not be so: {}",
            stream.error().message);
    count_refusal(stream.error().kind);
    return note(2, static_cast<uint64_t>(stream.error().kind));
  }
  require(!expected, "let in, and should have been refused with kind {}",
          static_cast<int>(expected.value_or(ErrorKind::kInternal)));
  FrontClient& client = clients_.emplace_back();
  client.stream.emplace(std::move(*stream));
  client.fields = fields;
  client.arrival = clock_.now;
  client.first_sequence = next_sequence_;
  client.repeats_itself = repeats_;
  client.expect(rooms, has_text_);
  next_sequence_ += static_cast<SequenceId>(client.begun.size());
  by_sequence_.insert(by_sequence_.end(), client.begun.size(), &client);
  for (const int64_t room : rooms) {
    const int64_t running = num_running(fields, room);
    submitted_ += running;
    at_once_ += client.num_sequences() - running;
  }
  alive_.push_back(&client);
  ++report_.requests;
  note(3, client.begun.size());
}

bool FrontRun::is_over(const FrontClient& client, VirtualClock::Time at) const {
  return at - client.arrival > std::chrono::milliseconds(options_.request_timeout_ms);
}

// and I13: mail and deadlines come before the step, so not even one is too late.
void FrontRun::check_row(const PlanRow& row) {
  FrontClient& client = client_of(row.sequence);
  const auto choice = static_cast<size_t>(row.sequence - client.first_sequence);
  require(!client.left, "Q-4: sequence {} has a row and its client has left", row.sequence);
  require(!is_over(client, clock_.now), "Q-2: sequence {} has a row and its time is over",
          row.sequence);
  const bool late =
      clock_.now - client.arrival > std::chrono::milliseconds(options_.queue_timeout_ms);
  require(client.begun[choice] || !late, "Q-2: sequence {} begins too late", row.sequence);
  client.begun[choice] = true;
  // Its first choice scores a prompt for all of them.
  const bool may_score =
      client.scores_prompts() && static_cast<int64_t>(choice) % client.num_sequences() == 0;
  require(row.num_prompt_rows == 0 || may_score, "sequence {} scores its prompt for nobody",
          row.sequence);
}

int64_t FrontRun::pause_tokens() const {
  return options_.stream_pause_bytes / kBytesPerUnreadToken;
}

void FrontRun::read(FrontClient& client) {
  const int64_t before = client.stream->completion_tokens();
  const ResponseStream::Poll poll = client.stream->poll();
  const int64_t taken = client.stream->completion_tokens() - before;
  report_.most_unread = std::max(report_.most_unread, taken);
  // Each choice notices with the step that is one too many.
  const bool drafts = options_.scheduler.speculative == "ngram";
  const auto of_step = drafts ? 1 + options_.scheduler.speculative_length : 1;
  const int64_t more = static_cast<int64_t>(client.begun.size()) * of_step;
  require(taken <= pause_tokens() + more, "Q-6: {} tokens were unread, {} may be", taken,
          pause_tokens() + more);
  require(client.receive(poll, has_text_), "I14: a client has received what it must not");
  require(poll.ended || !is_over(client, last_turn_), "Q-2: a request goes on though it is over");
  note(4, static_cast<uint64_t>(taken));
  if (poll.error) {
    check_error(client, *poll.error);
  } else if (poll.ended) {
    require(client.all_finished(), "a stream has ended and not every choice has");
    ++report_.answers;
    report_.scored_prompts += client.scores_prompts();
    report_.chosen_answers += client.num_sequences() > client.fields.num_choices;
  }
  if (poll.ended) end(client);
}

void FrontRun::check_error(const FrontClient& client, const Error& error) {
  const auto age = clock_.now - client.arrival;
  const int64_t soonest = std::min(options_.queue_timeout_ms, options_.request_timeout_ms);
  const auto failed = [&](RowFailure failure) {
    for (size_t i = 0; i < client.begun.size(); ++i) {
      const auto of = runner_->failed.find(client.first_sequence + static_cast<SequenceId>(i));
      if (of != runner_->failed.end() && of->second == failure) return true;
    }
    return false;
  };
  switch (error.kind) {
    case ErrorKind::kDeadline:
      ++report_.expired;
      return require(age > std::chrono::milliseconds(soonest), "Q-2: a deadline came too early");
    case ErrorKind::kNumericalError:
      ++report_.errors;
      return require(failed(RowFailure::kNotFinite), "N-1: an error of nobody's row");
    case ErrorKind::kOutOfMemory:
      ++report_.errors;
      report_.out_of_memory += !failed(RowFailure::kOutOfMemory);
      // Promise 2: what one allocation costs is one request at most.
      return require(report_.out_of_memory <= report_.starved,
                     "N-3: {} requests had no memory, and {} allocations failed",
                     report_.out_of_memory, report_.starved);
    case ErrorKind::kEngineError:
      ++report_.errors;
      return require(broken_, "an error of a model that works");
    case ErrorKind::kDraining:
      ++report_.errors;
      return require(aborted_, "ended, and nobody said so");
    default:
      require(false, "an error that nobody made: {}", error.message);
  }
}

void FrontRun::end(FrontClient& client) {
  client.left = true;
  client.stream.reset();
  client.tokens = {};
  client.texts = {};
  alive_.erase(std::find(alive_.begin(), alive_.end(), &client));
}

// Streaming or not, begun or not; sometimes behind its end, which it has not read yet.
void FrontRun::leave(FrontClient& client) {
  ++report_.left;
  note(5, static_cast<uint64_t>(client.first_sequence));
  if (fault_ == FrontFault::kDeafToLeaving) {
    client.left = true;  // and nobody tells the loop
    return;
  }
  if (random_.one_in(2)) client.stream->cancel();
  end(client);
}

void FrontRun::turn() {
  const int64_t before = runner_->num_steps;
  last_turn_ = clock_.now;
  std::chrono::milliseconds wait{0};
  if (starved_ && may_starve_ && random_.one_in(8)) {
    const int64_t number = random_.up_to(random_.one_of({60, 600}));
    report_.starved += starved_(number, [&] { wait = executor_->turn(); });
  } else {
    wait = executor_->turn();
  }
  if (runner_->found) throw SimulationFailure(*runner_->found);
  if (!broken_) executor_->check_invariants();
  const ExecutorStats stats = executor_->stats();
  if (stats.failed && !broken_) {
    require(runner_->num_steps >= runner_->stops_at(), "N-3: without memory the model has failed");
    broken_ = true;
    ++report_.broken;
  }
  require(in_system() >= 0 && executor_->idle() == (in_system() == 0), "I15: {} are in the system",
          in_system());
  // Nothing to do: the next mail or the next deadline may come soon or late.
  if (runner_->num_steps == before) {
    clock_.advance(std::chrono::microseconds(random_.up_to(wait.count() * 1000)));
  }
  note(6, static_cast<uint64_t>(runner_->num_steps - before));
}

void FrontRun::leap() {
  clock_.advance(std::chrono::milliseconds(random_.one_of({100, 2000, 700'000})));
  note(7, 0);
}

// A reader for everybody, and nothing new: all end within the tokens that are left, once more for
// each preemption, and as many reads.
void FrontRun::quiet_phase() {
  int64_t bound = 10;
  for (const FrontClient* client : alive_) {
    for (const Prompt& prompt : client->fields.prompts) {
      const auto length = static_cast<int64_t>(std::get<TokenPrompt>(prompt).ids.size());
      bound += (length + options_.max_model_len) * client->num_sequences() *
               (options_.scheduler.max_preemptions + 1);
    }
  }
  while (!alive_.empty()) {
    require(bound-- > 0, "I11: {} have not ended", alive_.size());
    turn();
    for (FrontClient* client : std::vector<FrontClient*>(alive_)) read(*client);
  }
  turn();  // who has left is forgotten with the mail
  clock_.advance(std::chrono::seconds(1));
  turn();
  require(executor_->idle(), "nobody is there and {} are in the system", in_system());
  require(executor_->stats().held_blocks == 0 || broken_, "{} blocks are held",
          executor_->stats().held_blocks);
  check_counters();
}

int64_t FrontRun::count(const std::string& name) const {
  const std::string page = registry_.text();
  int64_t sum = 0;
  for (size_t at = page.find("\n" + name + "{"); at != std::string::npos;
       at = page.find("\n" + name + "{", at + 1)) {
    sum += std::stoll(page.substr(page.find("} ", at) + 2));
  }
  return sum;
}

void FrontRun::check_counters() const {
  require(count("vllm:request_success_total") == submitted_ + at_once_,
          "I15: {} sequences came and {} have ended", submitted_ + at_once_,
          count("vllm:request_success_total"));
  const int64_t limited = count("tidemill:limited_steps_total");
  if (options_.max_step_ms == 0) require(limited == 0, "{} steps had a limit", limited);
  if (options_.max_step_ms > 0 && !broken_ && !starved_) {
    require(limited == runner_->num_steps, "of {} steps {} were counted", runner_->num_steps,
            limited);
  }
}

FrontReport FrontRun::run() {
  while (report_.events < num_events_) happen();
  quiet_phase();
  report_.steps = runner_->num_steps;
  report_.accepted_drafts = runner_->num_drafts;
  report_.judged = runner_->judged;
  return report_;
}

}  // namespace tidemill
