#include "server/generate_handler.h"

#include <ctime>
#include <exception>

#include "api/error.h"
#include "base/check.h"
#include "base/log.h"
#include "base/utf8.h"
#include "server/pages.h"

namespace tidemill {
namespace {

// Bytes that wait for a slow socket; beyond them the stream is left unread, and its sequence
// pauses.
constexpr size_t kMaxPendingBytes = 256 * 1024;
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

std::string milliseconds(RequestTimes::Time from, RequestTimes::Time to) {
  return format("{:.3f}", std::chrono::duration<double, std::milli>(to - from).count());
}

}  // namespace

GenerateTask::GenerateTask(const HandlerContext& context, Route route, HttpHead head,
                           std::string body, std::string request_id,
                           std::shared_ptr<Exchange> exchange)
    : context_(context),
      route_(std::move(route)),
      head_(std::move(head)),
      body_(std::move(body)),
      request_id_(std::move(request_id)),
      exchange_(std::move(exchange)) {}

// One job of this request; they do not overlap. What throws (a library, no memory) costs this
// request alone.
void GenerateTask::post(void (GenerateTask::*job)()) {
  context_.pool.post([self = shared_from_this(), job] {
    const std::lock_guard lock(self->mutex_);
    try {
      if (!self->abandoned_) ((*self).*job)();
    } catch (const std::exception& error) {
      log_error("request {}: {}", self->request_id_, error.what());
      self->fail(
          {.kind = ErrorKind::kInternal, .field = "", .message = "an internal error occurred."});
    }
  });
}

void GenerateTask::start() { post(&GenerateTask::parse_and_submit); }

void GenerateTask::resume() { post(&GenerateTask::drain); }

void GenerateTask::abandon() {
  context_.pool.post([self = shared_from_this()] {
    const std::lock_guard lock(self->mutex_);
    self->abandoned_ = true;
    if (self->stream_) self->log_end("client left");
    self->stream_.reset();
  });
}

// The path, then (on DJL's routes) query and header, then the body (on /v1).
Result<ModelView> GenerateTask::choose_model(const JsonValue& body) const {
  if (const std::string_view version = route_.query_value("model_version"); !version.empty()) {
    return Error{.kind = ErrorKind::kModelNotFound,
                 .field = "model_version",
                 .message = format("Model not found: version {}. Models have no versions here; "
                                   "leave model_version out.",
                                   excerpt(version))};
  }
  if (!route_.model.empty()) return context_.models.find(route_.model);
  if (route_.dialect == Dialect::kLmi) {
    std::string_view name = route_.query_value("model_name");
    if (name.empty()) name = head_.field("model_name");
    auto model = context_.models.find(name);
    if (!model && model.error().kind == ErrorKind::kMissingParameter) {
      return Error{.kind = ErrorKind::kMissingParameter,
                   .field = "model_name",
                   .message = "Parameter model_name is required."};
    }
    return model;
  }
  const auto name = requested_model(body);
  if (!name) return name.error();
  return context_.models.find(*name);
}

Result<ApiCall> GenerateTask::parse(const JsonValue& body, const ModelFacts& facts) const {
  const RequestContext context{.request_id = request_id_, .created = std::time(nullptr)};
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
  if (!accepts_content_type(route_.dialect, head_.field("content-type"), body_)) {
    return fail(
        {.kind = ErrorKind::kUnsupportedMediaType,
         .field = "",
         .message = "the body must be JSON in UTF-8: send Content-Type: application/json."});
  }
  auto body = parse_json(body_);
  body_ = {};
  if (!body) return fail(body.error());
  if (!body->is_object()) {
    return fail(
        {.kind = ErrorKind::kInvalidJson,
         .field = "",
         .message = format("the body is {}; it must be a JSON object.", body->kind_name())});
  }
  const auto model = choose_model(*body);
  if (!model) return fail(model.error());
  auto call = parse(*body, *model->facts);
  if (!call) return fail(call.error());
  auto stream = model->executor->submit(call->request);
  if (!stream) return fail(stream.error());
  admitted(std::move(*call), std::move(*stream));
}

void GenerateTask::admitted(ApiCall call, ResponseStream stream) {
  context_.metrics.unknown_parameters(call.ignored_fields.size());
  const std::string ignored = ignored_header(call.ignored_fields);
  if (!ignored.empty()) headers_.emplace_back("x-ignored-parameters", ignored);
  if (route_.dialect == Dialect::kLmi) add_lmi_headers(headers_);
  call_ = std::move(call);
  stream_ = std::move(stream);
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
    if (const auto self = weak.lock()) self->post(&GenerateTask::drain);
  });
}

// What has arrived becomes bytes. A socket that does not keep up leaves it where it is.
void GenerateTask::drain() {
  if (!stream_ || exchange_->pending_bytes() > kMaxPendingBytes) return;
  ResponseStream::Poll poll = stream_->poll();
  if (call_->stream) {
    exchange_->push(call_->format->chunk(poll.events));
  } else {
    std::move(poll.events.begin(), poll.events.end(), std::back_inserter(events_));
  }
  if (!poll.ended) return;
  if (poll.error) return fail(*poll.error);
  if (call_->stream) {
    exchange_->push(call_->format->end(*stream_));
    exchange_->end();
  } else {
    finish_whole();
  }
  log_end("done");
  stream_.reset();
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
void GenerateTask::fail(const Error& error) {
  const std::string_view slug = error_slug(error.kind);
  if (!stream_) context_.metrics.rejected(slug);
  Answer answer = answer_error(error, route_.dialect, request_id_);
  if (!exchange_->respond(std::move(answer.head), std::move(answer.body))) {
    if (call_) exchange_->push(call_->format->stream_error(error));
    exchange_->end();
  }
  log_end(slug);
  stream_.reset();
}

HeaderList GenerateTask::timing_headers() const {
  const RequestTimes t = stream_->times();
  if (t.first_token == RequestTimes::Time{}) return {};  // nothing was computed
  return {{"x-queue-time", milliseconds(t.arrival, t.first_scheduled)},
          {"x-prefill-time", milliseconds(t.first_scheduled, t.first_token)},
          {"x-decode-time", milliseconds(t.first_token, t.last_token)},
          {"x-total-time", milliseconds(t.arrival, std::chrono::steady_clock::now())}};
}

void GenerateTask::log_end(std::string_view outcome) const {
  int64_t prompt_tokens = 0;
  if (stream_) {
    for (const int64_t count : stream_->prompt_tokens()) prompt_tokens += count;
  }
  log_info("request {} {} {} prompt_tokens={} cached_tokens={} total_ms={}", request_id_,
           route_.pattern, outcome, prompt_tokens, stream_ ? stream_->cached_tokens() : 0,
           milliseconds(begun_, std::chrono::steady_clock::now()));
}

}  // namespace tidemill
