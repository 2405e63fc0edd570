#include "server/generate_handler.h"

#include <ctime>
#include <exception>
#include <new>

#include "api/fields.h"
#include "api/lmi_0_25.h"
#include "api/tokenization.h"
#include "base/check.h"
#include "base/log.h"
#include "server/access_log.h"
#include "server/model_choice.h"
#include "server/pages.h"
#include "server/request_id.h"

namespace tidemill {
namespace {

constexpr size_t kMaxIgnoredHeaderBytes = 256;

// A comma list of names that are fit for a header.
std::string ignored_header(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) {
    const bool plain = name.size() <= 64 &&
                       name.find_first_not_of(
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
                           std::string::npos;
    if (!plain || list.size() + name.size() + 1 > kMaxIgnoredHeaderBytes) continue;
    list += (list.empty() ? "" : ",") + name;
  }
  return list;
}

std::string in_milliseconds(RequestTimes::Time from, RequestTimes::Time to) {
  return format("{:.3f}", std::chrono::duration<double, std::milli>(to - from).count());
}

// As the log says how a request ended well.
std::string_view reason_name(const std::optional<FinishReason>& reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

}  // namespace

GenerateTask::GenerateTask(const HandlerContext& context, Route route, HttpHead head,
                           std::string body, std::string request_id, Caller caller,
                           std::shared_ptr<Exchange> exchange)
    : context_(context),
      route_(std::move(route)),
      head_(std::move(head)),
      body_(std::move(body)),
      request_id_(std::move(request_id)),
      caller_(std::move(caller)),
      exchange_(std::move(exchange)) {}

// The right to touch what is not atomic; given back at the end of the scope. Sequentially
// consistent like `abandoned_`: of a thread that gives it back and one that abandons and finds it
// taken, one sees the other.
class GenerateTask::Claim {
 public:
  explicit Claim(std::atomic<bool>& at_work) : at_work_(at_work), owned_(!at_work.exchange(true)) {}
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    if (owned_) at_work_.store(false);
  }
  bool owned() const { return owned_; }

 private:
  std::atomic<bool>& at_work_;
  const bool owned_;
};

void GenerateTask::start() {
  if (!generates(route_.kind)) side_place_.emplace(context_.pool);
  if (side_place_ && !side_place_->taken()) {
    return fail({.kind = ErrorKind::kQueueFull,
                 .field = "",
                 .message = format("{} requests for tokens are being answered; try again later.",
                                   TextPool::kMaxSideRequests)});
  }
  job_ = std::make_shared<TextPool::Job>([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->run();
  });
  wake();
}

void GenerateTask::resume() {
  if (starved_.exchange(false)) wake();
}

void GenerateTask::abandon() noexcept {
  abandoned_.store(true);
  let_go();
}

// Takes no memory: whoever wakes has something to say that nobody would hear otherwise.
void GenerateTask::wake() noexcept {
  if (num_wakes_.fetch_add(1) == 0) context_.pool.post(job_);
}

void GenerateTask::run() {
  const int64_t answered = num_wakes_.load();
  advance();
  if (abandoned_.load()) let_go();
  const bool more = num_wakes_.fetch_sub(answered) > answered;
  if (more) context_.pool.post(job_);  // behind the jobs of others
}

// What throws (a library, no memory) costs this request alone.
void GenerateTask::advance() {
  const Claim claim(at_work_);
  if (!claim.owned() || abandoned_.load()) return;
  try {
    if (phase_ == Phase::kNew) {
      parse_and_submit();
    } else {
      drain();
    }
  } catch (const std::exception& error) {
    fail_internally(error);
  }
}

// Without memory to say so, the connection ends without a word.
void GenerateTask::fail_internally(const std::exception& error) noexcept {
  if (phase_ == Phase::kEnded) return;
  try {
    log_error("request {}: {}", request_id_, error.what());
    fail({.kind = ErrorKind::kInternal, .field = "", .message = "an internal error occurred."});
  } catch (const std::exception&) {
    exchange_->break_off();
    if (!exchange_->head_out()) status_ = 0;
    end(error_slug(ErrorKind::kInternal));
  }
}

void GenerateTask::let_go() noexcept {
  const Claim claim(at_work_);
  if (!claim.owned() || phase_ == Phase::kEnded) return;
  if (!stream_ && generates(route_.kind)) {
    context_.metrics.left_before_submit();  // else the executor counts it
  }
  if (!exchange_->head_out()) status_ = 0;
  end("client_left");
}

Result<ApiCall> GenerateTask::parse(const JsonValue& body, const ModelFacts& facts) const {
  const RequestContext context{.unique_id = random_uuid(), .created = std::time(nullptr)};
  switch (route_.kind) {
    case RouteKind::kCompletion:
      return parse_openai_completion(body, facts, context);
    case RouteKind::kChat:
      return parse_openai_chat(body, facts, context);
    default:
      return parse_lmi_invocation(body, facts, context);
  }
}

void GenerateTask::parse_and_submit() {
  if (route_.dialect == Dialect::kLmi) return invoke();
  if (!accepts_content_type(head_.field("content-type"), body_)) {
    return fail(
        {.kind = ErrorKind::kUnsupportedMediaType,
         .field = "",
         .message = "the body must be JSON in UTF-8: send Content-Type: application/json."});
  }
  auto body = parse_json(body_, context_.json);
  body_ = {};
  if (!body) return fail(body.error());
  if (!body->is_object()) {
    return fail(
        {.kind = ErrorKind::kInvalidJson,
         .field = "",
         .message = format("the body is {}; it must be a JSON object.", body->kind_name())});
  }
  const auto model = choose_model(head_, *body, context_.models);
  if (!model) return fail(model.error(), RefusedBy::kFront);
  if (!generates(route_.kind)) return answer_text(*body, *model);
  submit(*model, *body, {});
}

// On LMI's routes the front takes forms apart and finds the model; the text is the model's
// business.
void GenerateTask::invoke() {
  const auto body = InvocationBody::take(route_, head_, std::exchange(body_, {}));
  if (!body) return fail(body.error(), RefusedBy::kFront);
  const auto model = choose_invoked_model(route_, head_, *body, context_.models);
  if (!model) return fail(model.error(), RefusedBy::kFront);
  if (model->facts->lmi.as_0_25()) compat_type_ = lmi_0_25_content_type(*model->facts);
  const auto json = body->json(context_.json);
  if (!json) return fail(json.error());
  submit(*model, *json, body->ignored());
}

void GenerateTask::submit(const ModelView& model, const JsonValue& body,
                          std::vector<std::string> ignored) {
  if (model.facts->strict_parameters && !ignored.empty()) {
    return fail(Fields::unknown_field(ignored.front()));
  }
  auto call = parse(body, *model.facts);
  if (!call) return fail(call.error());
  if (abandoned_.load()) return;
  model_name_ = model.name;
  auto stream = model.executor->submit(call->request, begun_);
  if (!stream) return fail(refused_by(model, stream.error()));
  stream_ = std::move(*stream);
  max_pending_bytes_ = model.executor->stream_pause_bytes();
  model.pace->observe(std::chrono::steady_clock::now(), model.executor->stats().ended);
  std::move(ignored.begin(), ignored.end(), std::back_inserter(call->ignored_fields));
  admitted(std::move(*call));
}

void GenerateTask::answer_text(const JsonValue& body, const ModelView& model) {
  const auto answer = route_.kind == RouteKind::kTokenize
                          ? answer_tokenize(body, *model.facts, *model.executor)
                          : answer_detokenize(body, *model.facts, *model.executor);
  if (!answer) return fail(answer.error());
  context_.metrics.unknown_parameters(answer->ignored_fields.size());
  const std::string ignored = ignored_header(answer->ignored_fields);
  if (!ignored.empty()) headers_.emplace_back("x-ignored-parameters", ignored);
  exchange_->respond({.status = 200, .headers = headers_}, answer->body);
  end("done");
}

// A full queue says when to come back, and on DJL's routes in the original's words.
Error GenerateTask::refused_by(const ModelView& model, Error error) {
  if (error.kind != ErrorKind::kQueueFull) return error;
  const ExecutorStats stats = model.executor->stats();
  retry_after_ =
      model.pace->seconds_for(std::chrono::steady_clock::now(), stats.ended, stats.waiting);
  if (route_.dialect == Dialect::kLmi) {
    error.message = format("Worker queue capacity exceeded for model: {}", model.name);
  }
  return error;
}

// Clients of DJL's routes look for these words to try again.
Error GenerateTask::in_djl_words(Error error) const {
  if (route_.dialect != Dialect::kLmi || error.kind != ErrorKind::kDeadline) return error;
  const auto waited =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now() - begun_);
  error.message = format("Time out in: {}. {}", waited.count(), error.message);
  return error;
}

void GenerateTask::admitted(ApiCall call) {
  context_.metrics.unknown_parameters(call.ignored_fields.size());
  const std::string ignored = ignored_header(call.ignored_fields);
  if (!ignored.empty()) headers_.emplace_back("x-ignored-parameters", ignored);
  if (route_.dialect == Dialect::kLmi) add_lmi_headers(headers_);
  phase_ = Phase::kAdmitted;
  call_ = std::move(call);
  call_->format->begin(*stream_);
  if (call_->stream) {
    if (route_.dialect != Dialect::kLmi) {
      headers_.emplace_back("Cache-Control", "no-cache");
      headers_.emplace_back("X-Accel-Buffering", "no");
    }
    exchange_->start_stream({.status = 200,
                             .content_type = std::string(call_->format->content_type()),
                             .headers = headers_});
  }
  stream_->on_ready([weak = weak_from_this()] {
    if (const auto self = weak.lock()) self->wake();
  });
}

// What has arrived becomes bytes. A socket that does not keep up leaves it where it is.
void GenerateTask::drain() {
  if (phase_ != Phase::kAdmitted || !has_room()) return;
  ResponseStream::Poll poll = stream_->poll();
  const bool done = poll.ended && !poll.error;
  for (const TextEvent& event : poll.events) {
    if (event.finish) finish_ = event.finish->reason;
  }
  if (call_->stream) {
    std::vector<std::string> chunks = call_->format->chunks(poll.events);
    if (done) {
      if (chunks.empty()) chunks.emplace_back();
      chunks.back() += call_->format->end(*stream_);
    }
    exchange_->push(std::move(chunks), done);
  } else {
    std::move(poll.events.begin(), poll.events.end(), std::back_inserter(events_));
    if (done) finish_whole();
  }
  if (poll.error) return fail(*poll.error);
  if (done) end(reason_name(finish_));
}

// Beyond what may wait for a slow socket the stream is left unread, and its sequence pauses. The
// flag first, then the look: the connection that makes room in between sees the flag.
bool GenerateTask::has_room() {
  starved_.store(true);
  if (static_cast<int64_t>(exchange_->pending_bytes()) > max_pending_bytes_) return false;
  starved_.store(false);
  return true;
}

void GenerateTask::finish_whole() {
  std::string body = call_->format->whole(events_, *stream_);
  HeaderList headers = headers_;
  for (auto& header : timing_headers()) headers.push_back(std::move(header));
  exchange_->respond({.status = 200,
                      .content_type = std::string(call_->format->content_type()),
                      .headers = std::move(headers)},
                     std::move(body));
}

// Before the head of a stream is out, an error has its own status; afterwards it is a record.
void GenerateTask::fail(const Error& problem, RefusedBy by) {
  const Error error = in_djl_words(problem);
  const std::string_view slug = error_slug(error.kind);
  if (!stream_ && generates(route_.kind) && !counted_) context_.metrics.rejected(slug);
  counted_ = true;
  if (fail_in_stream(error, by)) return end(slug);
  Answer answer = answer_error(error, {.dialect = route_.dialect,
                                       .request_id = request_id_,
                                       .by = by,
                                       .retry_after_seconds = retry_after_,
                                       .lmi = context_.lmi});
  const int status = answer.head.status;
  if (exchange_->respond(std::move(answer.head), std::move(answer.body))) {
    status_ = status;
  } else {
    exchange_->push(call_ ? call_->format->stream_error(error) : std::string(), true);
  }
  end(slug);
}

// 0.25.0 tells what goes wrong on the model's side behind status 200. False: not so here.
bool GenerateTask::fail_in_stream(const Error& error, RefusedBy by) {
  if (!compat_type_ || by == RefusedBy::kFront || !lmi_0_25_tells_behind_200(error)) return false;
  if (!call_ || !call_->stream) {
    add_lmi_headers(headers_);
    exchange_->start_stream({.status = 200, .content_type = *compat_type_, .headers = headers_});
  }
  exchange_->push(lmi_0_25_error(error), true);
  return true;
}

// Without memory for it, the log has a line less.
void GenerateTask::end(std::string_view outcome) noexcept {
  phase_ = Phase::kEnded;
  try {
    log_end(outcome);
  } catch (const std::bad_alloc&) {
  }
  stream_.reset();
  side_place_.reset();
}

HeaderList GenerateTask::timing_headers() const {
  const RequestTimes t = stream_->times();
  if (t.first_token == RequestTimes::Time{}) return {};  // nothing was computed
  return {{"x-queue-time", in_milliseconds(t.arrival, t.first_scheduled)},
          {"x-prefill-time", in_milliseconds(t.first_scheduled, t.first_token)},
          {"x-decode-time", in_milliseconds(t.first_token, t.last_token)},
          {"x-total-time", in_milliseconds(t.arrival, std::chrono::steady_clock::now())}};
}

void GenerateTask::log_end(std::string_view outcome) const {
  GenerationLine generation{.model = model_name_};
  if (stream_) {
    for (const int64_t count : stream_->prompt_tokens()) generation.prompt_tokens += count;
    generation.cached_tokens = stream_->cached_tokens();
    generation.output_tokens = stream_->completion_tokens();
    generation.choices = stream_->num_choices();
    generation.times = stream_->times();
  }
  log_access({.request_id = request_id_,
              .caller = caller_,
              .route = route_.pattern,
              .outcome = outcome,
              .status = status_,
              .total = std::chrono::steady_clock::now() - begun_},
             generation);
}

}  // namespace tidemill
