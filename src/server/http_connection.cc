#include "server/http_connection.h"

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/status.hpp>

#include "base/check.h"
#include "base/log.h"
#include "server/access_log.h"
#include "server/client_stream.h"
#include "server/client_watch.h"
#include "server/http_body.h"
#include "server/pages.h"
#include "server/request_id.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Error_code = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kFirstReadBytes = 4 << 10;  // what an idle connection holds
constexpr milliseconds kLingerTime{1000};
constexpr milliseconds kQuietWait{60'000};   // of what needs no comments: just a turn of the loop
constexpr milliseconds kHeadPatience{1000};  // a stream's head waits so long for its first token

std::string_view reason_phrase(int status) {
  return http::obsolete_reason(static_cast<http::status>(status)).data();
}

class Connection {
 public:
  Connection(asio::ip::tcp::socket socket, ConnectionContext& context)
      : context_(context), reserved_(is_reserved(context)), stream_(std::move(socket)) {}

  asio::awaitable<void> run() {
    bool go_on = true;
    while (go_on) go_on = co_await serve_one();
    if (unread_) co_await stream_.linger(kLingerTime);
    stream_.shutdown();
  }

 private:
  // One request; true when the connection may serve another.
  asio::awaitable<bool> serve_one() {
    HttpHead head;
    const bool has_head = co_await read_head(head);
    if (!has_head) co_return false;
    const Exchanging exchanging(context_);
    request_id_ = request_id_for(head.field("x-request-id"));
    caller_ = {.trace_id = trace_id_of(head.field("traceparent")), .key_name = ""};
    const auto methods =
        context_.handler.lmi.as_0_25() ? InvocationMethods::kAny : InvocationMethods::kPost;
    auto found = find_route(head.method, head.target, methods);
    if (auto answer = context_.gate.stops(head, found, request_id_, caller_.key_name)) {
      co_return co_await stop(head, found, std::move(*answer));
    }
    if (const auto* miss = std::get_if<NoRoute>(&found)) {
      co_return co_await refuse_route(head, *miss);
    }
    Route route = std::get<Route>(std::move(found));
    if (const auto problem = refusal(head, route)) {
      co_return co_await send_error(head, *problem, route);
    }
    HeapGuard* heap = context_.options.heap;
    if (needs_text_pool(route.kind) && heap != nullptr &&
        is_full(*heap, context_.handler.models, Clock::now())) {
      const std::string message = format(
          "requests hold nearly all of the memory that they may take (heap_budget, {} "
          "bytes); try again later.",
          heap->budget());
      co_await send_http_error(head, 503, message, route);
      co_return false;
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
    co_return co_await send_whole(head, std::move(page), route.pattern, "done");
  }

  Answer metrics_page() const {
    return {.head = {.content_type = "text/plain; version=0.0.4; charset=utf-8"},
            .body = context_.metrics.text()};
  }

  // ---- reading

  // False when there is no (good) request; what can be answered has been.
  asio::awaitable<bool> read_head(HttpHead& head) {
    const auto patience =
        reserved_ ? kReservedTime : milliseconds(context_.options.header_timeout_ms);
    const auto keep_alive = first_ ? patience : milliseconds(context_.options.keep_alive_ms);
    first_ = false;
    begun_ = Clock::now();  // what was sent ahead begins now; what is still to come, when it comes
    bool has_begun = !in_.empty();
    size_t end = in_.find(kHeadEnd);
    while (end == std::string::npos) {
      if (is_other_protocol(in_)) co_return false;
      if (const auto problem = hopeless()) {
        co_await send_refusal(*problem);
        co_return false;
      }
      milliseconds wait = keep_alive;
      if (has_begun) {
        wait = std::max(milliseconds(1),
                        std::chrono::duration_cast<milliseconds>(begun_ + patience - Clock::now()));
      }
      const bool got = co_await stream_.read_some(wait, in_.empty() ? kFirstReadBytes : kReadBytes);
      if (!got) {
        const bool late = stream_.timed_out() && !in_.empty();
        const HeadProblem problem{408, "the head did not arrive in time"};
        if (late) co_await send_refusal(problem);
        co_return false;
      }
      if (!has_begun) begun_ = Clock::now();
      has_begun = true;
      end = in_.find(kHeadEnd);
    }
    if (is_other_protocol(in_)) co_return false;
    if (end + kHeadEnd.size() > static_cast<size_t>(context_.options.max_head_bytes)) {
      const HeadProblem problem{431, "head too long"};
      co_await send_refusal(problem);
      co_return false;
    }
    auto parsed =
        parse_head(std::string_view(in_).substr(0, end + kHeadEnd.size()), context_.options.head);
    if (const auto* problem = std::get_if<HeadProblem>(&parsed)) {
      co_await send_refusal(*problem);
      co_return false;
    }
    head = std::get<HttpHead>(std::move(parsed));
    in_.erase(0, end + kHeadEnd.size());
    co_return true;
  }

  // What is wrong already with a head that has not ended yet.
  std::optional<HeadProblem> hopeless() const {
    if (has_bare_line_feed(in_)) return HeadProblem{400, "line end"};  // might wait for ever
    const bool in_first_line = in_.find("\r\n") == std::string::npos;
    const auto line = static_cast<size_t>(context_.options.head.request_line);
    // One byte more: it may be the first of the line's end.
    if (in_first_line && in_.size() > line + 1) return HeadProblem{414, "request line"};
    if (in_.size() > static_cast<size_t>(context_.options.max_head_bytes)) {
      return HeadProblem{431, "head too long"};
    }
    return std::nullopt;
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

  asio::awaitable<bool> read_body(const HttpHead& head, const Route& route, std::string& out) {
    if (head.expects_continue) {
      std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      const bool sent = co_await write_bytes(std::move(go_on));
      if (!sent) {
        left_unread(route);
        co_return false;
      }
    }
    const ServerOptions& options = context_.options;
    HttpBody body(head, options.max_request_size, options.body);
    const auto begun = Clock::now();
    int64_t num_bytes = 0;
    for (;;) {
      const size_t used = body.put(in_);
      in_.erase(0, used);
      num_bytes += static_cast<int64_t>(used);
      if (body.state() != HttpBody::State::kMore) break;
      const milliseconds allowed(options.body_grace_ms + num_bytes * 1000 / options.body_min_rate);
      const auto left = std::chrono::duration_cast<milliseconds>(begun + allowed - Clock::now());
      const auto patience = reserved_ ? kReservedTime : milliseconds(options.body_timeout_ms);
      const auto wait = std::clamp(left, milliseconds(1), patience);
      const bool got = co_await stream_.read_some(wait, kReadBytes);
      if (!got) {
        if (stream_.timed_out()) {
          co_await send_http_error(head, 408, "the body did not arrive in time.", route);
        } else {
          left_unread(route);
        }
        co_return false;
      }
    }
    if (body.state() == HttpBody::State::kTooLarge) {
      const Error too_large{.kind = ErrorKind::kBodyTooLarge,
                            .field = "",
                            .message = format("the body has more bytes than max_request_size, {}.",
                                              options.max_request_size)};
      co_await send_error(head, too_large, route);
      co_return false;
    }
    if (body.state() == HttpBody::State::kMalformed) {
      co_await send_http_error(head, 400, "the body is not framed as HTTP asks.", route);
      co_return false;
    }
    out = body.take();
    co_return true;
  }

  // The client has gone before its request was whole: it is one, and that is its ending.
  void left_unread(const Route& route) {
    if (generates(route.kind)) context_.handler.metrics.left_before_submit();
    log_access({.request_id = request_id_,
                .caller = caller_,
                .route = route.pattern,
                .outcome = "client_left",
                .total = Clock::now() - begun_});
  }

  // ---- writing

  asio::awaitable<bool> write_bytes(std::string bytes) {
    const milliseconds stall(context_.options.stall_timeout_ms);
    const bool sent = co_await stream_.write(std::move(bytes), stall);
    if (stream_.stalled()) context_.handler.metrics.stalled();
    co_return sent;
  }

  std::string head_text(const AnswerHead& answer, std::string_view framing, bool keep_alive) const {
    std::string text = format("HTTP/1.1 {} {}\r\nx-request-id: {}\r\n", answer.status,
                              reason_phrase(answer.status), request_id_);
    if (!answer.content_type.empty()) text += format("Content-Type: {}\r\n", answer.content_type);
    for (const auto& [name, value] : answer.headers) text += format("{}: {}\r\n", name, value);
    text += context_.gate.header_lines();
    if (!framing.empty()) text += format("{}\r\n", framing);
    text += format("Connection: {}\r\n\r\n", keep_alive ? "keep-alive" : "close");
    return text;
  }

  static bool has_body(const HttpHead& head) {
    return head.chunked || head.content_length.value_or(0) > 0;
  }

  bool keeps_alive(const HttpHead& head, int status) const {
    return head.keep_alive && status < 400 && !reserved_ && !context_.draining.load();
  }

  // `outcome` is for the log's line; empty when the task that made the answer writes it.
  asio::awaitable<bool> send_whole(const HttpHead& head, Answer answer, std::string_view pattern,
                                   std::string_view outcome) {
    const bool keep_alive = keeps_alive(head, answer.head.status);
    const std::string framing =
        answer.head.status == 204 ? "" : format("Content-Length: {}", answer.body.size());
    std::string bytes = head_text(answer.head, framing, keep_alive);
    if (head.method != "HEAD") bytes += answer.body;
    const bool sent = co_await write_bytes(std::move(bytes));
    count(head, pattern, answer.head.status);
    if (!outcome.empty()) {
      log_access({.request_id = request_id_,
                  .caller = caller_,
                  .route = pattern,
                  .outcome = outcome,
                  .status = answer.head.status,
                  .total = Clock::now() - begun_});
    }
    co_return sent&& keep_alive;
  }

  asio::awaitable<bool> send_error(const HttpHead& head, Error error, const Route& route) {
    if (generates(route.kind)) context_.handler.metrics.rejected(error_slug(error.kind));
    unread_ = true;
    const ErrorContext of_route{.dialect = route.dialect,
                                .request_id = request_id_,
                                .by = RefusedBy::kFront,
                                .lmi = context_.handler.lmi};
    Answer answer = answer_error(error, of_route);
    co_return co_await send_whole(head, std::move(answer), route.pattern, error_slug(error.kind));
  }

  // A request whose head was good and whose body is not.
  asio::awaitable<void> send_http_error(const HttpHead& head, int status, std::string_view message,
                                        const Route& route) {
    if (generates(route.kind)) context_.handler.metrics.rejected(http_error_slug(status));
    unread_ = true;
    Answer answer =
        answer_http_error(status, message, route.dialect, request_id_, context_.handler.lmi);
    co_await send_whole(head, std::move(answer), route.pattern, http_error_slug(status));
  }

  // What the gate has answered.
  asio::awaitable<bool> stop(const HttpHead& head, const FrontGate::Found& found, Answer answer) {
    const auto* route = std::get_if<Route>(&found);
    const bool refused = answer.head.status >= 400;
    unread_ = refused || has_body(head);
    if (refused && route != nullptr && generates(route->kind)) {
      context_.handler.metrics.rejected(error_slug(ErrorKind::kUnauthorized));
    }
    const std::string_view pattern = route == nullptr ? "none" : route->pattern;
    const std::string_view outcome =
        refused ? error_slug(ErrorKind::kUnauthorized) : std::string_view("done");
    const bool sent = co_await send_whole(head, std::move(answer), pattern, outcome);
    co_return sent && !has_body(head);
  }

  asio::awaitable<bool> refuse_route(const HttpHead& head, const NoRoute& miss) {
    unread_ = true;
    Error error{.kind = miss.kind, .field = "", .message = miss.message};
    const ErrorContext of_family{
        .dialect = miss.dialect, .request_id = request_id_, .lmi = context_.handler.lmi};
    Answer answer = answer_error(error, of_family);
    if (!miss.allow.empty()) answer.head.headers.emplace_back("Allow", miss.allow);
    co_return co_await send_whole(head, std::move(answer), "none", error_slug(miss.kind));
  }

  // A head that is no request: there is no route, so there is no dialect.
  asio::awaitable<void> send_refusal(HeadProblem problem) {
    request_id_ = request_id_for("");
    caller_ = {};
    unread_ = true;
    Answer answer =
        answer_http_error(problem.status, format("malformed HTTP request: {}.", problem.reason),
                          Dialect::kPlain, request_id_);
    HttpHead closing{.method = "GET", .keep_alive = false};
    co_await send_whole(closing, std::move(answer), "none", http_error_slug(problem.status));
  }

  void count(const HttpHead& head, std::string_view pattern, int status) {
    const std::chrono::duration<double> seconds = Clock::now() - begun_;
    context_.handler.metrics.answered(pattern, head.method, status, seconds.count());
  }

  // ---- generation

  asio::awaitable<bool> generate(HttpHead head, Route route, std::string body) {
    const std::string_view pattern = route.pattern;
    auto exchange = std::make_shared<Exchange>(head.minor_version == 1);
    exchange->on_progress([alarm = stream_.alarm(), executor = stream_.socket().get_executor()] {
      asio::post(executor, [alarm] { alarm->call(); });
    });
    const auto task = std::make_shared<GenerateTask>(
        context_.handler, std::move(route), head, std::move(body), request_id_, caller_, exchange);
    Running running(watch_, exchange, task);
    watch_.start([alarm = stream_.alarm()] { alarm->call(); });
    task->start();
    running.complete = co_await relay(head, *exchange, *task, pattern);
    if (streamed_) count(head, pattern, last_status_);  // when it has ended, or was broken off
    co_return running.complete&& keeps_alive(head, last_status_);
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
    std::shared_ptr<GenerateTask> task;  // shared with its jobs in the pool
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
        co_await send_whole(head, std::move(answer), pattern, "");
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
        const bool sent = co_await write_bytes(std::move(bytes));
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
    const bool keep_alive = head.minor_version == 1 && keeps_alive(head, answer.status);
    return head_text(answer, framing, keep_alive);
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
  std::string& in_ = stream_.ahead();
  ClientWatch watch_{stream_.socket(), in_,
                     static_cast<size_t>(context_.options.max_pipelined_requests)};
  std::string request_id_;
  Caller caller_;
  Clock::time_point begun_{};
  int last_status_ = 200;
  bool first_ = true;
  bool unread_ = false;    // the answer was a refusal; bytes may still be on their way
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
