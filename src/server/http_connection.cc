#include "server/http_connection.h"

#include <algorithm>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/check.h"
#include "base/log.h"
#include "server/answer_writer.h"
#include "server/client_stream.h"
#include "server/client_watch.h"
#include "server/pages.h"
#include "server/request_id.h"
#include "server/request_reader.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
using Error_code = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr milliseconds kLingerTime{1000};
constexpr milliseconds kQuietWait{60'000};   // of what needs no comments: just a turn of the loop
constexpr milliseconds kHeadPatience{1000};  // a stream's head waits so long for its first token

bool has_body(const HttpHead& head) { return head.chunked || head.content_length.value_or(0) > 0; }

class Connection {
 public:
  Connection(asio::ip::tcp::socket socket, ConnectionContext& context)
      : context_(context),
        reserved_(is_reserved(context)),
        stream_(std::move(socket)),
        reader_(stream_, context.options, reserved_),
        writer_(stream_, context, tag_) {}

  asio::awaitable<void> run() {
    bool go_on = true;
    while (go_on) go_on = co_await serve_one();
    if (writer_.unread()) co_await stream_.linger(kLingerTime);
    stream_.shutdown();
  }

 private:
  // One request; true when the connection may serve another.
  asio::awaitable<bool> serve_one() {
    RequestReader::Head read = co_await reader_.read_head();
    if (const auto* problem = std::get_if<HeadProblem>(&read)) co_await refuse_head(*problem);
    if (!std::holds_alternative<HttpHead>(read)) co_return false;
    HttpHead head = std::get<HttpHead>(std::move(read));
    const Exchanging exchanging(context_);
    tag_ = {.id = request_id_for(head.field("x-request-id")),
            .caller = {.trace_id = trace_id_of(head.field("traceparent")), .key_name = ""},
            .begun = reader_.begun()};
    const auto methods =
        context_.handler.lmi.as_0_25() ? InvocationMethods::kAny : InvocationMethods::kPost;
    auto found = find_route(head.method, head.target, methods);
    if (auto answer = context_.gate.stops(head, found, tag_.id, tag_.caller.key_name)) {
      co_return co_await stop(head, found, std::move(*answer));
    }
    if (const auto* miss = std::get_if<NoRoute>(&found)) {
      co_return co_await refuse_route(head, *miss);
    }
    Route route = std::get<Route>(std::move(found));
    if (const auto problem = refusal(head, route)) {
      co_return co_await writer_.send_error(head, *problem, route);
    }
    if (needs_text_pool(route.kind) && is_heap_full()) {
      const std::string message = heap_message();
      co_return co_await writer_.send_http_error(head, 503, message, route);
    }
    std::string body;
    const bool has_body = co_await read_body(head, route, body);
    if (!has_body) co_return false;
    if (needs_text_pool(route.kind)) {
      co_return co_await generate(std::move(head), std::move(route), std::move(body));
    }
    Answer page = route.kind == RouteKind::kMetrics
                      ? metrics_page()
                      : answer_page(route, context_.handler.models, context_.draining.load());
    co_return co_await writer_.send(head, std::move(page), route.pattern, "done");
  }

  Answer metrics_page() const {
    return {.head = {.content_type = "text/plain; version=0.0.4; charset=utf-8"},
            .body = context_.metrics.text()};
  }

  bool is_heap_full() const {
    HeapGuard* heap = context_.options.heap;
    return heap != nullptr && is_full(*heap, context_.handler.models, Clock::now());
  }

  std::string heap_message() const {
    return format(
        "requests hold nearly all of the memory that they may take (heap_budget, {} bytes); try "
        "again later.",
        context_.options.heap->budget());
  }

  // What a request is refused for before its body is read.
  std::optional<Error> refusal(const HttpHead& head, const Route& route) const {
    const auto most = static_cast<uint64_t>(context_.options.max_request_size);
    if (head.content_length && *head.content_length > most) {
      return Error{.kind = ErrorKind::kBodyTooLarge,
                   .field = "",
                   .message = format("the body has {} bytes; max_request_size is {}.",
                                     *head.content_length, most)};
    }
    if (!head.field("content-encoding").empty()) {
      return Error{.kind = ErrorKind::kUnsupportedMediaType,
                   .field = "",
                   .message = "Content-Encoding is not supported; send the body as it is."};
    }
    if (!needs_text_pool(route.kind)) return std::nullopt;
    if (context_.draining.load()) {
      return Error{.kind = ErrorKind::kDraining,
                   .field = "",
                   .message = "the server is shutting down; send the request to another one."};
    }
    if (reserved_) {
      return Error{.kind = ErrorKind::kQueueFull,
                   .field = "",
                   .message = "too many connections are open; try again later."};
    }
    return std::nullopt;
  }

  // False when there is none; what can be answered has been.
  asio::awaitable<bool> read_body(const HttpHead& head, const Route& route, std::string& out) {
    if (head.expects_continue) {
      std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      const bool sent = co_await writer_.write(std::move(go_on));
      if (!sent) {
        writer_.left_unread(route);
        co_return false;
      }
    }
    RequestReader::Body read = co_await reader_.read_body(head);
    if (auto* body = std::get_if<std::string>(&read)) {
      out = std::move(*body);
      co_return true;
    }
    if (const auto* problem = std::get_if<BodyProblem>(&read)) {
      co_await writer_.send_http_error(head, problem->status, problem->message, route);
    } else if (const auto* error = std::get_if<Error>(&read)) {
      co_await writer_.send_error(head, *error, route);
    } else {
      writer_.left_unread(route);
    }
    co_return false;
  }

  // What the gate has answered.
  asio::awaitable<bool> stop(const HttpHead& head, const FrontGate::Found& found, Answer answer) {
    const auto* route = std::get_if<Route>(&found);
    const bool refused = answer.head.status >= 400;
    if (refused || has_body(head)) writer_.leave_unread();
    if (refused && route != nullptr && generates(route->kind)) {
      context_.handler.metrics.rejected(error_slug(ErrorKind::kUnauthorized));
    }
    const std::string_view pattern = route == nullptr ? "none" : route->pattern;
    const std::string_view outcome =
        refused ? error_slug(ErrorKind::kUnauthorized) : std::string_view("done");
    co_return co_await writer_.send(head, std::move(answer), pattern, outcome);
  }

  asio::awaitable<bool> refuse_route(const HttpHead& head, const NoRoute& miss) {
    writer_.leave_unread();
    Error error{.kind = miss.kind, .field = "", .message = miss.message};
    const ErrorContext of_family{
        .dialect = miss.dialect, .request_id = tag_.id, .lmi = context_.handler.lmi};
    Answer answer = answer_error(error, of_family);
    if (!miss.allow.empty()) answer.head.headers.emplace_back("Allow", miss.allow);
    co_return co_await writer_.send(head, std::move(answer), "none", error_slug(miss.kind));
  }

  // A head that is no request: there is no route, so there is no dialect.
  asio::awaitable<void> refuse_head(HeadProblem problem) {
    tag_ = {.id = request_id_for(""), .caller = {}, .begun = reader_.begun()};
    writer_.leave_unread();
    Answer answer =
        answer_http_error(problem.status, format("malformed HTTP request: {}.", problem.reason),
                          Dialect::kPlain, tag_.id);
    HttpHead closing{.method = "GET", .keep_alive = false};
    co_await writer_.send(closing, std::move(answer), "none", http_error_slug(problem.status));
  }

  // ---- generation

  asio::awaitable<bool> generate(HttpHead head, Route route, std::string body) {
    const std::string_view pattern = route.pattern;
    auto exchange = std::make_shared<Exchange>(head.minor_version == 1);
    exchange->on_progress([alarm = stream_.alarm()] { alarm->call_from_any_thread(); });
    const auto task = std::make_shared<GenerateTask>(
        context_.handler, std::move(route), head, std::move(body), tag_.id, tag_.caller, exchange);
    Running running(watch_, exchange, task);
    watch_.start([alarm = stream_.alarm()] { alarm->call(); });
    task->start();
    running.complete = co_await relay(head, *exchange, *task, pattern);
    if (streamed_)
      writer_.count(head, pattern, last_status_);  // when it has ended, or was broken off
    co_return running.complete&& writer_.keeps_alive(head, last_status_);
  }

  // A generation request while the connection holds it. However that ends, the server's coming
  // down included, the pool wakes nobody and writes nothing afterwards, and what still runs is
  // cancelled.
  struct Running {
    Running(ClientWatch& client, std::shared_ptr<Exchange> to, std::shared_ptr<GenerateTask> what)
        : watch(client), exchange(std::move(to)), task(std::move(what)) {}
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      watch.stop();
      exchange->on_progress(nullptr);
      exchange->reclaim();
      if (!complete) task->abandon();
    }

    ClientWatch& watch;
    std::shared_ptr<Exchange> exchange;  // shared with the task
    std::shared_ptr<GenerateTask> task;  // shared with its job while that runs
    bool complete = false;
  };

  // Moves what the text pool makes to the client until it ends; false when the client has left. The
  // events of a client that keeps up do not come through here: the pool has the socket while this
  // waits.
  asio::awaitable<bool> relay(const HttpHead& head, Exchange& exchange, GenerateTask& task,
                              std::string_view pattern) {
    streamed_ = false;
    last_event_ = Clock::now();
    for (;;) {
      if (watch_.client_left()) co_return false;
      Exchange::Output output = exchange.take();
      if (output.broken) co_return false;
      if (output.whole) {
        last_status_ = output.head->status;
        Answer answer{.head = std::move(*output.head), .body = std::move(output.body)};
        co_await writer_.send(head, std::move(answer), pattern, "");
        co_return true;
      }
      std::string bytes;
      if (output.head) {
        last_status_ = output.head->status;
        const char* framing = head.minor_version == 1 ? "Transfer-Encoding: chunked" : "";
        bytes = stream_head(*output.head, framing, head);
        streamed_ = true;
      }
      bytes += output.body;
      if (!bytes.empty()) {
        const bool sent = co_await writer_.write(std::move(bytes));
        if (!sent) co_return false;
        context_.handler.metrics.stream_written();
        last_event_ = Clock::now();
        task.resume();
        if (output.ended) co_return head.minor_version == 1;
        continue;  // what came while the socket was busy has called nobody
      }
      if (output.ended) co_return head.minor_version == 1;
      const bool quiet = co_await wait_for_progress(exchange);
      if (quiet) exchange.push(": ping\n\n");
    }
  }

  std::string stream_head(const AnswerHead& answer, const char* framing, const HttpHead& head) {
    is_event_stream_ = answer.content_type.starts_with("text/event-stream");
    // HTTP/1.0 knows no chunks: the end of the connection ends the answer.
    const bool keep_alive = head.minor_version == 1 && writer_.keeps_alive(head, answer.status);
    return writer_.head_text(answer, framing, keep_alive);
  }

  // True when nothing came for the ping interval.
  asio::awaitable<bool> wait_for_progress(Exchange& exchange) {
    const auto waits_for_head = exchange.head_waits_since();
    const auto ping = milliseconds(context_.options.sse_ping_interval_ms);
    const bool pings = ping.count() > 0 && streamed_ && is_event_stream_;
    auto until = pings ? last_event_ + ping : Clock::now() + kQuietWait;
    if (waits_for_head) until = *waits_for_head + kHeadPatience;
    asio::steady_timer& timer = stream_.alarm()->call_timer;
    timer.expires_at(until);
    exchange.lend([this](std::string_view bytes) {
      context_.handler.metrics.stream_written();
      return stream_.send_now(bytes);
    });
    Error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    last_event_ = std::max(last_event_, exchange.reclaim());
    if (error) co_return false;  // woken
    if (waits_for_head) {
      exchange.release_head();
      co_return false;
    }
    co_return pings&& Clock::now() >= last_event_ + ping;
  }

  ConnectionContext& context_;
  const bool reserved_;  // one of the last that fit: for health alone
  ClientStream stream_;
  RequestTag tag_;
  RequestReader reader_;
  AnswerWriter writer_;
  ClientWatch watch_{stream_.socket(), stream_.ahead(),
                     static_cast<size_t>(context_.options.max_pipelined_requests)};
  int last_status_ = 200;
  bool streamed_ = false;  // the head of a stream is out
  bool is_event_stream_ = false;
  Clock::time_point last_event_{};  // of a stream; what follows a quiet while is a comment
};

}  // namespace

asio::awaitable<void> serve_connection(asio::ip::tcp::socket socket, ConnectionContext& context) {
  ++context.num_connections;
  try {
    Connection connection(std::move(socket), context);
    co_await connection.run();
  } catch (const std::exception& error) {
    log_error("a connection ended: {}", error.what());
  }
  --context.num_connections;
}

}  // namespace tidemill
