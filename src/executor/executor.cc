#include "executor/executor.h"

#include <algorithm>
#include <future>
#include <limits>
#include <numeric>
#include <thread>

#include "base/check.h"
#include "base/thread_name.h"
#include "executor/encode_prompt.h"
#include "executor/executor_metrics.h"
#include "executor/step_loop.h"
#include "executor/step_watchdog.h"
#include "executor/stream_state.h"
#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

// A request as tokens, and the tokens that each of its prompts may have behind it.
struct EncodedRequest {
  std::vector<EncodedPrompt> prompts;
  std::vector<int64_t> rooms;
  std::vector<std::vector<TokenId>> bad_words;
};

Error too_long(const GenerationRequest& request, int64_t prompt, int64_t asked, int64_t limit) {
  const FieldNames& names = request.names();
  return {.kind = ErrorKind::kPromptTooLong,
          .field = names.prompt,
          .message = format("the prompt has {} tokens and {} asks for {} more, together {}; this "
                            "model's limit is {}. Shorten the prompt or lower {}.",
                            prompt, names.max_new_tokens, asked, prompt + asked, limit,
                            names.max_new_tokens)};
}

// No retry would help, so it is not the queue that is full.
Error too_many(const GenerationRequest& request, int64_t count, int64_t limit) {
  const FieldNames& names = request.names();
  const std::string& times = request.fields().best_of ? names.best_of : names.num_choices;
  return {.kind = ErrorKind::kInvalidParameter,
          .field = request.num_sequences() > 1 ? times : names.prompt,
          .message = format("the request asks for {} sequences at once (prompts times {}); this "
                            "server holds {} at most. Ask for fewer.",
                            count, times, limit)};
}

// Of one prompt: all of them, or one where only the prompt is to be scored, or none.
int64_t num_running_sequences(const GenerationRequest& request, int64_t room) {
  if (room > 0) return request.num_sequences();
  return request.fields().num_prompt_logprobs >= 0 ? 1 : 0;
}

std::vector<TokenId> ids_of(const std::vector<int64_t>& numbers) {
  std::vector<TokenId> ids;
  for (const int64_t number : numbers) ids.push_back(static_cast<TokenId>(number));
  return ids;
}

}  // namespace

struct Executor::State {
  State(std::unique_ptr<StepRunner> step_runner, TextParts text_parts,
        const ExecutorOptions& executor_options, MetricsRegistry& registry,
        const std::string& model_name, const LoopDriver& driver)
      : runner(std::move(step_runner)),
        text(std::move(text_parts)),
        options(executor_options),
        metrics(registry, model_name, options.max_model_len,
                {.num_blocks = options.scheduler.groups.front().num_blocks,
                 .dtype = options.kv_cache_dtype,
                 .prefix_cache = options.scheduler.prefix_cache}),
        mailbox(std::make_shared<Mailbox>()),
        loop(*runner, options, metrics, *mailbox, streams, gauges, driver) {
    if (!driver.own_thread) return;
    watchdog.emplace(gauges, options, model_name);
    thread = std::thread([this] {
      name_thread("step loop");
      runner->enter_thread();
      loop.run();
      loop_ended.set_value();
    });
  }

  // The tokens that may be generated behind that prompt, or why there are none.
  Result<int64_t> room_for(const GenerationRequest& request, int64_t prompt_tokens) const;
  // Why that many more sequences cannot be let in beside those that are; nothing if they can.
  std::optional<Error> refusal(const GenerationRequest& request, int64_t present,
                               int64_t count) const;
  Result<Done> take_places(const GenerationRequest& request, int64_t count);
  Result<EncodedRequest> encode(const GenerationRequest& request) const;
  ResponseStream start(const GenerationRequest& request, EncodedRequest encoded,
                       RequestTimes::Time arrival);
  void send(const ResponseStream::State& stream, std::vector<Mail> mail,
            RequestTimes::Time arrival);
  Mail mail_for(const GenerationRequest& request, const EncodedPrompt& prompt, int64_t room,
                uint64_t seed) const;
  SamplingParams sampling_params(const GenerationFields& fields, uint64_t seed) const;
  ChoiceReader reader_for(const GenerationRequest& request, const EncodedPrompt& prompt,
                          SequenceId id) const;

  std::unique_ptr<StepRunner> runner;
  const TextParts text;
  const ExecutorOptions options;
  ExecutorMetrics metrics;
  std::shared_ptr<Mailbox> mailbox;  // shared with streams, which may outlive this
  StreamTable streams;
  LoopGauges gauges;
  std::atomic<SequenceId> next_id{1};
  std::atomic<bool> draining{false};
  StepLoop loop;
  std::promise<void> loop_ended;
  std::future<void> when_loop_ended = loop_ended.get_future();
  std::thread thread;                    // none where the caller lets the loop go on
  std::optional<StepWatchdog> watchdog;  // of that thread
};

Result<EncodedRequest> Executor::State::encode(const GenerationRequest& request) const {
  EncodedRequest encoded;
  const int32_t vocab_size = runner->vocab_size();
  for (const Prompt& prompt : request.fields().prompts) {
    auto ids = encode_prompt(request, prompt, text, vocab_size);
    if (!ids) return ids.error();
    const auto room = room_for(request, static_cast<int64_t>(ids->ids.size()));
    if (!room) return room.error();
    encoded.prompts.push_back(std::move(*ids));
    encoded.rooms.push_back(*room);
  }
  if (request.fields().bad_words.empty()) return encoded;
  auto words = encode_bad_words(request, *text.tokenizer, vocab_size);
  if (!words) return words.error();
  encoded.bad_words = std::move(*words);
  return encoded;
}

Result<int64_t> Executor::State::room_for(const GenerationRequest& request,
                                          int64_t prompt_tokens) const {
  const GenerationFields& fields = request.fields();
  if (prompt_tokens == 0) {
    return Error{.kind = ErrorKind::kEmptyPrompt,
                 .field = request.names().prompt,
                 .message = "the prompt holds no token; at least one is needed."};
  }
  const int64_t pool = options.scheduler.groups.front().num_blocks * kBlockTokens;
  const int64_t limit = std::min(options.max_model_len, pool);
  const int64_t left = limit - prompt_tokens;
  const int64_t asked =
      fields.max_new_tokens.value_or(std::max({left, int64_t{1}, fields.min_new_tokens}));
  const bool clamp = fields.clamp_max_new_tokens && left > 0;
  if (asked > left && !clamp) return too_long(request, prompt_tokens, asked, limit);
  return std::min(asked, left);
}

std::optional<Error> Executor::State::refusal(const GenerationRequest& request, int64_t present,
                                              int64_t count) const {
  if (draining.load()) {
    return Error{.kind = ErrorKind::kDraining,
                 .field = "",
                 .message = "the server is shutting down; send the request to another one."};
  }
  if (gauges.failed.load()) {
    return Error{.kind = ErrorKind::kEngineError,
                 .field = "",
                 .message = "the model stopped working and cannot take requests."};
  }
  // Those that wait, and those that run: a free place in the batch takes no place in the queue.
  const int64_t limit = options.job_queue_size + options.scheduler.max_sequences;
  if (count > limit) return too_many(request, count, limit);
  if (present + count > limit) {
    return Error{.kind = ErrorKind::kQueueFull,
                 .field = "",
                 .message = format("the queue is full: {} sequences wait or run, and {} may. Try "
                                   "again later.",
                                   present, limit)};
  }
  return std::nullopt;
}

Result<Done> Executor::State::take_places(const GenerationRequest& request, int64_t count) {
  // Taken only where there are so many: one that is refused takes no place from anybody meanwhile.
  int64_t present = gauges.in_system.load();
  do {
    auto refused = refusal(request, present, count);
    if (refused) return std::move(*refused);
  } while (!gauges.in_system.compare_exchange_weak(present, present + count));
  return Done{};
}

// The prefix scope is the salt alone: model, rotary settings and KV format are those of the one
// pool that this executor has, and a request names no adapter yet. When it does, that joins it
// here.
Mail Executor::State::mail_for(const GenerationRequest& request, const EncodedPrompt& prompt,
                               int64_t room, uint64_t seed) const {
  const GenerationFields& fields = request.fields();
  Mail mail{.kind = MailKind::kAdd,
            .prompt = prompt.ids,
            .max_new_tokens = static_cast<int32_t>(room),
            .min_new_tokens = static_cast<int32_t>(std::min(fields.min_new_tokens, room)),
            .sampling = sampling_params(fields, seed)};
  for (const auto& [id, bias] : fields.logit_bias) {
    mail.bias_ids.push_back(static_cast<TokenId>(id));
    mail.bias.push_back(static_cast<float>(bias));
  }
  if (fields.allowed_token_ids) mail.allowed_ids = ids_of(*fields.allowed_token_ids);
  mail.prefix_scope = fields.cache_salt.value_or("");
  mail.priority = static_cast<int32_t>(fields.priority);
  // Which sequences are the best is a matter of their log-probabilities.
  if (request.num_sequences() > fields.num_choices) {
    mail.sampling.num_logprobs = std::max(mail.sampling.num_logprobs, 0);
  }
  if (!fields.ignore_end) mail.end_ids = text.end_ids;
  mail.stop_ids = ids_of(fields.stop_token_ids);
  return mail;
}

// Numbers that are too small for a float stay what they are: more than nothing.
SamplingParams Executor::State::sampling_params(const GenerationFields& fields,
                                                uint64_t seed) const {
  const auto above_zero = [](double value) {
    return std::max(static_cast<float>(value), std::numeric_limits<float>::min());
  };
  return {.temperature = static_cast<float>(fields.temperature),
          .top_k = static_cast<int32_t>(std::max<int64_t>(fields.top_k, 0)),
          .top_p = static_cast<float>(fields.top_p),
          .seed = seed,
          .num_logprobs = static_cast<int32_t>(fields.num_logprobs),
          .min_p = static_cast<float>(fields.min_p),
          .typical_p = above_zero(fields.typical_p),
          .repetition_penalty = above_zero(fields.repetition_penalty),
          .frequency_penalty = static_cast<float>(fields.frequency_penalty),
          .presence_penalty = static_cast<float>(fields.presence_penalty),
          .processed_logprobs = options.logprobs_mode == "processed"};
}

ChoiceReader Executor::State::reader_for(const GenerationRequest& request,
                                         const EncodedPrompt& prompt, SequenceId id) const {
  const GenerationFields& fields = request.fields();
  ChoiceReader reader{.sequence = id};
  if (text.tokenizer) {
    // A few tokens of the prompt as context keep the first blank of the answer.
    const size_t context = std::min<size_t>(prompt.ids.size(), 4);
    reader.detokenizer.emplace(
        text.tokenizer.get(), fields.skip_special_tokens,
        std::vector<TokenId>(prompt.ids.end() - static_cast<std::ptrdiff_t>(context),
                             prompt.ids.end()));
  }
  reader.stop_strings = StopStrings(fields.stop_strings, fields.keep_stop_text);
  return reader;
}

ResponseStream Executor::State::start(const GenerationRequest& request, EncodedRequest encoded,
                                      RequestTimes::Time arrival) {
  std::vector<EncodedPrompt>& prompts = encoded.prompts;
  const std::vector<int64_t>& rooms = encoded.rooms;
  auto stream = std::make_unique<ResponseStream::State>();
  stream->queue = std::make_shared<StreamQueue>(arrival);
  stream->mailbox = mailbox;
  stream->tokenizer = text.tokenizer;
  stream->seed = request.seed();
  stream->num_sequences = request.num_sequences();
  stream->num_shown = request.fields().num_choices;
  stream->scores_prompts = request.fields().num_prompt_logprobs >= 0;
  stream->prompt_scores.resize(prompts.size());
  stream->resume_tokens =
      std::min(options.stream_resume_bytes, options.stream_pause_bytes) / kBytesPerUnreadToken;
  std::vector<Mail> mail;
  for (size_t p = 0; p < prompts.size(); ++p) {
    std::optional<SequenceId> leader;
    const int64_t num_running = num_running_sequences(request, rooms[p]);
    for (int32_t choice = 0; choice < request.num_sequences(); ++choice) {
      const SequenceId id = next_id.fetch_add(1);
      const auto stream_choice = static_cast<int32_t>(stream->choices.size());
      stream->choices.push_back(reader_for(request, prompts[p], id));
      if (choice >= num_running) {  // nothing is to be generated: the end is all there is
        stream->queue->push({.choice = stream_choice, .end = SequenceEnd{.id = id}});
        metrics.sequence_ended({.kind = EndKind::kLength,
                                .times = {arrival, arrival, arrival, arrival},
                                .prompt_tokens = static_cast<int64_t>(prompts[p].ids.size())});
        continue;
      }
      Mail& record =
          mail.emplace_back(mail_for(request, prompts[p], rooms[p], request.seed_of_prompt(p)));
      record.choice = choice;
      record.sequence = id;
      record.stream_choice = stream_choice;
      record.same_prompt_as = leader;
      record.bad_words = encoded.bad_words;
      // Scores of the prompt are the same for all of its choices.
      if (choice == 0) {
        record.num_prompt_logprobs = static_cast<int32_t>(request.fields().num_prompt_logprobs);
      }
      if (!leader) leader = id;
    }
    stream->prompt_tokens.push_back(static_cast<int64_t>(prompts[p].ids.size()));
    stream->prompt_texts.push_back(std::move(prompts[p].text));
    stream->prompts.push_back(std::move(prompts[p].ids));
  }
  send(*stream, std::move(mail), arrival);
  const auto& counts = stream->prompt_tokens;
  metrics.request_admitted(request.fields().num_choices,
                           std::accumulate(counts.begin(), counts.end(), int64_t{0}));
  return ResponseStream(std::move(stream));
}

// All of it, or nothing: a sequence that the loop does not get must leave no stream for it.
void Executor::State::send(const ResponseStream::State& stream, std::vector<Mail> mail,
                           RequestTimes::Time arrival) {
  try {
    for (const Mail& record : mail) streams.put(record.sequence, stream.queue, arrival);
    mailbox->push(std::move(mail));
  } catch (...) {
    for (const ChoiceReader& choice : stream.choices) streams.remove(choice.sequence);
    throw;
  }
}

Executor::Executor(std::unique_ptr<StepRunner> runner, TextParts text,
                   const ExecutorOptions& options, MetricsRegistry& metrics, std::string model_name,
                   const LoopDriver& driver)
    : state_(std::make_unique<State>(std::move(runner), std::move(text), options, metrics,
                                     model_name, driver)) {}

Executor::~Executor() {
  state_->loop.stop();
  if (state_->thread.joinable()) {
    state_->thread.join();
  } else {
    state_->loop.run();  // ends what is left
  }
  // Whoever was submitted while the loop ended.
  for (const StreamTable::Entry& entry : state_->streams.take_all()) {
    entry.stream->fail(
        {.kind = ErrorKind::kDraining, .field = "", .message = "the model was unloaded."});
  }
}

Result<ResponseStream> Executor::submit(const GenerationRequest& request,
                                        RequestTimes::Time arrival) {
  // Before the text is looked at: under overload, saying no must cost little.
  const GenerationFields& fields = request.fields();
  const int64_t at_most = static_cast<int64_t>(fields.prompts.size()) *
                          num_running_sequences(request, fields.max_new_tokens.value_or(1));
  auto refused = state_->refusal(request, state_->gauges.in_system.load(), at_most);
  if (refused) return std::move(*refused);
  auto encoded = state_->encode(request);
  if (!encoded) return encoded.error();
  int64_t places = 0;
  for (const int64_t room : encoded->rooms) places += num_running_sequences(request, room);
  const auto placed = state_->take_places(request, places);
  if (!placed) return placed.error();
  try {
    return state_->start(request, std::move(*encoded), arrival);
  } catch (...) {
    state_->gauges.in_system.fetch_sub(places);  // the loop, which gives them back, has none of it
    throw;
  }
}

Result<std::vector<TokenId>> Executor::encode(const GenerationRequest& request) const {
  auto encoded = encode_prompt(request, request.fields().prompts.front(), state_->text,
                               state_->runner->vocab_size());
  if (!encoded) return encoded.error();
  return std::move(encoded->ids);
}

void Executor::drain() { state_->draining.store(true); }

bool Executor::idle() const { return state_->gauges.in_system.load() == 0; }

void Executor::abort_all(Error error) { state_->loop.abort_all(std::move(error)); }

void Executor::answer_all(Error error) {
  const auto shared = std::make_shared<const Error>(std::move(error));
  for (const auto& stream : state_->streams.streams()) stream->fail(shared);
}

bool Executor::stop(std::chrono::milliseconds wait) {
  CHECK(state_->thread.joinable(), "the caller lets the loop go on");
  state_->loop.stop();
  return state_->when_loop_ended.wait_for(wait) == std::future_status::ready;
}

void Executor::shed_cache() { state_->loop.shed_cache(); }

std::chrono::milliseconds Executor::turn() {
  CHECK(!state_->thread.joinable(), "the loop has a thread of its own");
  return state_->loop.turn({});
}

void Executor::check_invariants() const {
  CHECK(!state_->thread.joinable(), "the loop has a thread of its own");
  state_->loop.check_invariants();
}

RequestLimits Executor::limits() const {
  RequestLimits limits = state_->options.request;
  limits.max_model_len = state_->options.max_model_len;
  limits.vocab_size = state_->runner->vocab_size();
  limits.has_tokenizer = state_->text.tokenizer != nullptr;
  limits.has_chat_template = state_->text.chat_template != nullptr;
  return limits;
}

int64_t Executor::stream_pause_bytes() const { return state_->options.stream_pause_bytes; }

ExecutorStats Executor::stats() const {
  const LoopGauges& gauges = state_->gauges;
  return {
      .running = gauges.running.load(),
      .waiting = std::max<int64_t>(0, gauges.in_system.load() - gauges.running.load()),
      .held_blocks = gauges.held_blocks.load(),
      .cached_blocks = gauges.cached_blocks.load(),
      .total_blocks = gauges.total_blocks.load(),
      .prepared = gauges.prepared.load(),
      .ended = gauges.ended.load(),
      .heartbeat = gauges.heartbeat.load(),
      .stalled = stalled_for(gauges, state_->options, std::chrono::steady_clock::now()).has_value(),
      .failed = gauges.failed.load()};
}

const TextParts& Executor::text() const { return state_->text; }

}  // namespace tidemill
