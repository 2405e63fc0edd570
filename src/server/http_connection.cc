#include "server/http_connection.h"

#include <sys/socket.h>

#include <cerrno>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <boost/beast/http/status.hpp>

#include "base/check.h"
#include "base/log.h"
#include "server/http_body.h"
#include "server/pages.h"
#include "server/request_id.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Error_code = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kFirstReadBytes = 4 << 10;  // what an idle connection holds
constexpr size_t kMaxPipelinedBytes = 64 << 10;
constexpr milliseconds kBodyGrace{10'000};  // then a body brings 1 KiB per second
constexpr int64_t kMinBodyBytesPerMs = 1;
constexpr milliseconds kLingerTime{1000};
constexpr int64_t kReservedConnections = 8;  // kept for health when all others are taken
constexpr milliseconds kHeadPatience{1000};  // a stream's head waits so long for its first token

std::string_view reason_phrase(int status) {
  return http::obsolete_reason(static_cast<http::status>(status)).data();
}

// A condition that the text pool raises and the connection waits for.
struct Signal {
  explicit Signal(asio::any_io_executor executor) : timer(executor) {}
  asio::steady_timer timer;
  bool client_left = false;
  int64_t watch = 0;  // the watch that counts; a handler of an older one finds nothing to do
};

class Connection {
 public:
  Connection(asio::ip::tcp::socket socket, ConnectionContext& context)
      : context_(context),
        stream_(std::move(socket)),
        signal_(std::make_shared<Signal>(stream_.get_executor())) {}

  asio::awaitable<void> run() {
    bool go_on = true;
    while (go_on) go_on = co_await serve_one();
    co_await linger();
    Error_code ignored;
    stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
  }

 private:
  // One request; true when the connection may serve another.
  asio::awaitable<bool> serve_one() {
    HttpHead head;
    const bool has_head = co_await read_head(head);
    if (!has_head) co_return false;
    begun_ = Clock::now();
    request_id_ = request_id_for(head.field("x-request-id"));
    auto found = find_route(head.method, head.target);
    if (const auto* miss = std::get_if<NoRoute>(&found)) {
      co_return co_await refuse_route(head, *miss);
    }
    Route route = std::get<Route>(std::move(found));
    if (const auto problem = body_problem(head)) {
      co_return co_await send_error(head, *problem, route.dialect, route.pattern);
    }
    std::string body;
    const bool has_body = co_await read_body(head, route, body);
    if (!has_body) co_return false;
    if (route.kind == RouteKind::kMetrics) {
      Answer page{.head = {.content_type = "text/plain; version=0.0.4; charset=utf-8"},
                  .body = context_.metrics.text()};
      co_return co_await send_whole(head, page, route.pattern);
    }
    const bool generates = route.kind == RouteKind::kInvocation ||
                           route.kind == RouteKind::kCompletion || route.kind == RouteKind::kChat;
    if (!generates) {
      Answer page = answer_page(route, context_.handler.models, context_.draining.load());
      co_return co_await send_whole(head, page, route.pattern);
    }
    co_return co_await generate(std::move(head), std::move(route), std::move(body));
  }

  // Closing a socket on unread bytes resets it, and the client may lose the answer that says why.
  // So after a refusal the rest is read for a moment, and forgotten.
  asio::awaitable<void> linger() {
    if (!unread_) co_return;
    Error_code ignored;
    stream_.socket().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    const auto deadline = Clock::now() + kLingerTime;
    bool more = true;
    while (more && Clock::now() < deadline) {
      in_.clear();
      more = co_await read_some(
          std::chrono::duration_cast<milliseconds>(deadline - Clock::now()) + milliseconds(1),
          kReadBytes);
    }
  }

  // ---- reading

  // Some bytes into `in_`; false at the end, at an error, or after `wait`. The deadline is a timer
  // of ours: the stream's own would close the socket, and a 408 could not be said any more.
  asio::awaitable<bool> read_some(milliseconds wait, size_t room) {
    const size_t before = in_.size();
    in_.resize(before + room);
    const int64_t watch = ++signal_->watch;
    signal_->timer.expires_after(wait);
    signal_->timer.async_wait([this, signal = signal_, watch](const Error_code& error) {
      if (error || signal->watch != watch) return;  // this object may be gone
      timed_out_ = true;
      Error_code ignored;
      stream_.socket().cancel(ignored);
    });
    timed_out_ = false;
    Error_code error;
    const size_t count = co_await stream_.socket().async_read_some(
        asio::buffer(in_.data() + before, room), asio::redirect_error(asio::use_awaitable, error));
    ++signal_->watch;
    signal_->timer.cancel();
    in_.resize(before + count);
    co_return !error;
  }

  // False when there is no (good) request; what can be answered has been.
  asio::awaitable<bool> read_head(HttpHead& head) {
    const auto keep_alive =
        milliseconds(first_ ? context_.options.header_timeout_ms : context_.options.keep_alive_ms);
    first_ = false;
    size_t end = in_.find("\r\n\r\n");
    Clock::time_point deadline{};
    while (end == std::string::npos) {
      if (is_other_protocol(in_)) co_return false;
      if (has_bare_line_feed(in_)) {  // it might wait for its end for ever
        const HeadProblem problem{400, "line end"};
        co_await send_refusal(problem);
        co_return false;
      }
      if (in_.size() > static_cast<size_t>(context_.options.max_head_bytes)) {
        const int status = in_.find("\r\n") == std::string::npos ? 414 : 431;
        const HeadProblem problem{status, "head too long"};
        co_await send_refusal(problem);
        co_return false;
      }
      milliseconds wait = keep_alive;
      if (!in_.empty()) {
        if (deadline == Clock::time_point{}) {
          deadline = Clock::now() + milliseconds(context_.options.header_timeout_ms);
        }
        wait = std::max(milliseconds(1),
                        std::chrono::duration_cast<milliseconds>(deadline - Clock::now()));
      }
      const bool got = co_await read_some(wait, in_.empty() ? kFirstReadBytes : kReadBytes);
      if (!got) {
        const bool late = timed_out_ && !in_.empty();
        const HeadProblem problem{408, "the head did not arrive in time"};
        if (late) co_await send_refusal(problem);
        co_return false;
      }
      end = in_.find("\r\n\r\n");
    }
    if (is_other_protocol(in_)) co_return false;
    if (end + 4 > static_cast<size_t>(context_.options.max_head_bytes)) {
      const HeadProblem problem{431, "head too long"};
      co_await send_refusal(problem);
      co_return false;
    }
    auto parsed = parse_head(std::string_view(in_).substr(0, end + 4), {});
    if (const auto* problem = std::get_if<HeadProblem>(&parsed)) {
      co_await send_refusal(*problem);
      co_return false;
    }
    head = std::get<HttpHead>(std::move(parsed));
    in_.erase(0, end + 4);
    co_return true;
  }

  std::optional<Error> body_problem(const HttpHead& head) const {
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
    return std::nullopt;
  }

  asio::awaitable<bool> read_body(const HttpHead& head, const Route& route, std::string& out) {
    if (head.expects_continue) {
      std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
      const bool sent = co_await write_bytes(std::move(go_on));
      if (!sent) co_return false;
    }
    HttpBody body(head, context_.options.max_request_size);
    const auto begun = Clock::now();
    int64_t num_bytes = 0;
    for (;;) {
      const size_t used = body.put(in_);
      in_.erase(0, used);
      num_bytes += static_cast<int64_t>(used);
      if (body.state() != HttpBody::State::kMore) break;
      const auto allowed = kBodyGrace + milliseconds(num_bytes / kMinBodyBytesPerMs);
      const auto left = std::chrono::duration_cast<milliseconds>(begun + allowed - Clock::now());
      const auto wait =
          std::clamp(left, milliseconds(1), milliseconds(context_.options.body_timeout_ms));
      const bool got = co_await read_some(wait, kReadBytes);
      if (!got) {
        const HeadProblem problem{408, "the body did not arrive in time"};
        if (timed_out_) co_await send_refusal(problem);
        co_return false;
      }
    }
    if (body.state() == HttpBody::State::kTooLarge) {
      const Error too_large{.kind = ErrorKind::kBodyTooLarge,
                            .field = "",
                            .message = format("the body has more bytes than max_request_size, {}.",
                                              context_.options.max_request_size)};
      co_await send_error(head, too_large, route.dialect, route.pattern);
      co_return false;
    }
    if (body.state() == HttpBody::State::kMalformed) {
      const HeadProblem problem{400, "the body is not framed as HTTP asks"};
      co_await send_refusal(problem);
      co_return false;
    }
    out = body.take();
    co_return true;
  }

  // ---- writing

  asio::awaitable<bool> write_bytes(std::string bytes) {
    Error_code error;
    for (size_t sent = 0; sent < bytes.size() && !error;) {  // whoever takes a little is no stall
      stream_.expires_after(milliseconds(context_.options.stall_timeout_ms));
      sent +=
          co_await stream_.async_write_some(asio::buffer(bytes.data() + sent, bytes.size() - sent),
                                            asio::redirect_error(asio::use_awaitable, error));
    }
    if (error == beast::error::timeout) context_.handler.metrics.stalled();
    co_return !error;
  }

  std::string head_text(const AnswerHead& answer, std::string_view framing, bool keep_alive) const {
    std::string text = format("HTTP/1.1 {} {}\r\nx-request-id: {}\r\n", answer.status,
                              reason_phrase(answer.status), request_id_);
    if (!answer.content_type.empty()) text += format("Content-Type: {}\r\n", answer.content_type);
    for (const auto& [name, value] : answer.headers) text += format("{}: {}\r\n", name, value);
    text += format("{}\r\nConnection: {}\r\n\r\n", framing, keep_alive ? "keep-alive" : "close");
    return text;
  }

  bool keeps_alive(const HttpHead& head, int status) const {
    return head.keep_alive && status < 400 && !context_.draining.load();
  }

  asio::awaitable<bool> send_whole(const HttpHead& head, Answer answer, std::string_view pattern) {
    const bool keep_alive = keeps_alive(head, answer.head.status);
    const std::string framing = format("Content-Length: {}", answer.body.size());
    std::string bytes = head_text(answer.head, framing, keep_alive);
    if (head.method != "HEAD") bytes += answer.body;
    count(head, pattern, answer.head.status);
    const bool sent = co_await write_bytes(std::move(bytes));
    co_return sent&& keep_alive;
  }

  asio::awaitable<bool> send_error(const HttpHead& head, Error error, Dialect dialect,
                                   std::string_view pattern) {
    context_.handler.metrics.rejected(error_slug(error.kind));
    unread_ = true;
    Answer answer = answer_error(error, {.dialect = dialect, .request_id = request_id_});
    co_return co_await send_whole(head, std::move(answer), pattern);
  }

  asio::awaitable<bool> refuse_route(const HttpHead& head, const NoRoute& miss) {
    unread_ = true;
    Error error{.kind = miss.kind, .field = "", .message = miss.message};
    Answer answer = answer_error(error, {.dialect = miss.dialect, .request_id = request_id_});
    if (!miss.allow.empty()) answer.head.headers.emplace_back("Allow", miss.allow);
    co_return co_await send_whole(head, std::move(answer), "none");
  }

  // A head that is no request: there is no route, so there is no dialect.
  asio::awaitable<void> send_refusal(HeadProblem problem) {
    request_id_ = request_id_for("");
    unread_ = true;
    Answer answer = answer_error({.kind = ErrorKind::kInvalidParameter,
                                  .field = "",
                                  .message = format("malformed HTTP request: {}.", problem.reason)},
                                 {.dialect = Dialect::kPlain, .request_id = request_id_});
    answer.head.status = problem.status;
    HttpHead closing{.method = "GET", .keep_alive = false};
    co_await send_whole(closing, std::move(answer), "none");
  }

  void count(const HttpHead& head, std::string_view pattern, int status) {
    const std::chrono::duration<double> seconds = Clock::now() - begun_;
    context_.handler.metrics.answered(pattern, head.method, status, seconds.count());
  }

  // ---- generation

  asio::awaitable<bool> generate(HttpHead head, Route route, std::string body) {
    const std::string_view pattern = route.pattern;
    const Dialect dialect = route.dialect;
    if (context_.draining.load()) {
      Error error{.kind = ErrorKind::kDraining,
                  .field = "",
                  .message = "the server is shutting down; send the request to another one."};
      co_return co_await send_error(head, std::move(error), dialect, pattern);
    }
    if (context_.num_connections > context_.options.max_connections - kReservedConnections) {
      Error error{.kind = ErrorKind::kQueueFull,
                  .field = "",
                  .message = "too many connections are open; try again later."};
      co_return co_await send_error(head, std::move(error), dialect, pattern);
    }
    auto exchange = std::make_shared<Exchange>();
    exchange->on_progress([signal = signal_, executor = stream_.get_executor()] {
      asio::post(executor, [signal] { signal->timer.cancel(); });
    });
    const auto task = std::make_shared<GenerateTask>(context_.handler, std::move(route), head,
                                                     std::move(body), request_id_, exchange);
    Running running(context_, *signal_, exchange, task);
    watch_client();
    task->start();
    running.complete = co_await relay(head, *exchange, *task, pattern);
    co_return running.complete&& keeps_alive(head, last_status_);
  }

  // A generation request while the connection holds it. However that ends, the server's coming
  // down included, the pool wakes nobody afterwards and what still runs is cancelled.
  struct Running {
    Running(ConnectionContext& of, Signal& wakes, std::shared_ptr<Exchange> to,
            std::shared_ptr<GenerateTask> what)
        : context(of), signal(wakes), exchange(std::move(to)), task(std::move(what)) {
      ++context.num_exchanges;
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() {
      ++signal.watch;
      exchange->on_progress(nullptr);
      if (!complete) task->abandon();
      --context.num_exchanges;
    }

    ConnectionContext& context;
    Signal& signal;
    std::shared_ptr<Exchange> exchange;  // shared with the task
    std::shared_ptr<GenerateTask> task;  // shared with its jobs in the pool
    bool complete = false;
  };

  // Moves what the text pool makes to the client until it ends; false when the client has left.
  asio::awaitable<bool> relay(const HttpHead& head, Exchange& exchange, GenerateTask& task,
                              std::string_view pattern) {
    const auto admitted = Clock::now();
    bool head_out = false;
    for (;;) {
      if (signal_->client_left) co_return false;
      Exchange::Output output = exchange.take();
      if (output.whole) {
        last_status_ = output.head->status;
        Answer answer{.head = std::move(*output.head), .body = std::move(output.body)};
        co_await send_whole(head, std::move(answer), pattern);
        co_return true;
      }
      std::string bytes;
      if (output.head) {
        last_status_ = output.head->status;
        const char* framing = head.minor_version == 1 ? "Transfer-Encoding: chunked" : "";
        bytes = stream_head(*output.head, framing, head);
        head_out = true;
        count(head, pattern, output.head->status);
      }
      append_chunk(bytes, output.body, head.minor_version == 1);
      if (output.ended && head.minor_version == 1) bytes += "0\r\n\r\n";
      if (!bytes.empty()) {
        const bool sent = co_await write_bytes(std::move(bytes));
        if (!sent) co_return false;
        task.resume();
        if (output.ended) co_return head.minor_version == 1;
        continue;  // what came while the socket was busy has called nobody
      }
      if (output.ended) co_return head.minor_version == 1;
      const bool quiet = co_await wait_for_progress(exchange, admitted, head_out);
      if (quiet && head_out && is_event_stream_) {
        std::string ping;
        append_chunk(ping, ": ping\n\n", head.minor_version == 1);
        const bool sent = co_await write_bytes(std::move(ping));
        if (!sent) co_return false;
      }
    }
  }

  std::string stream_head(const AnswerHead& answer, const char* framing, const HttpHead& head) {
    is_event_stream_ = answer.content_type.starts_with("text/event-stream");
    // HTTP/1.0 knows no chunks: the end of the connection ends the answer.
    const bool keep_alive = head.minor_version == 1 && keeps_alive(head, answer.status);
    std::string text = head_text(answer, framing, keep_alive);
    if (*framing == '\0') text.erase(text.find("\r\n\r\nConnection") + 2, 2);
    return text;
  }

  static void append_chunk(std::string& out, const std::string& bytes, bool chunked) {
    if (bytes.empty()) return;
    out += chunked ? format("{:x}\r\n", bytes.size()) + bytes + "\r\n" : bytes;
  }

  // True when nothing came for the ping interval.
  asio::awaitable<bool> wait_for_progress(Exchange& exchange, Clock::time_point admitted,
                                          bool head_out) {
    const bool waits_for_head = !head_out && exchange.streaming();
    const auto ping = milliseconds(context_.options.sse_ping_interval_ms);
    auto until = Clock::now() + (ping.count() > 0 ? ping : milliseconds(60'000));
    if (waits_for_head) until = admitted + kHeadPatience;
    signal_->timer.expires_at(until);
    Error_code error;
    co_await signal_->timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return false;  // woken
    if (waits_for_head) {
      exchange.release_head();
      co_return false;
    }
    co_return ping.count() > 0;
  }

  // While a request is computed, the client's leaving is seen by reading on. Requests that it sends
  // ahead are kept, up to a bound; beyond it the socket is left alone. A half-closed connection
  // counts as left: it looks the same.
  void watch_client() {
    signal_->client_left = false;
    const int64_t watch = ++signal_->watch;
    stream_.socket().async_wait(asio::ip::tcp::socket::wait_read, [this, signal = signal_,
                                                                   watch](const Error_code& error) {
      if (error || signal->watch != watch) return;  // this object may be gone
      char bytes[4096];
      const auto got = ::recv(stream_.socket().native_handle(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (got < 0 && (errno == EAGAIN || errno == EINTR)) return watch_client();
      if (got > 0) {
        in_.append(bytes, static_cast<size_t>(got));
        if (in_.size() < kMaxPipelinedBytes) watch_client();
        return;
      }
      signal->client_left = true;
      signal->timer.cancel();
    });
  }

  ConnectionContext& context_;
  beast::tcp_stream stream_;
  std::shared_ptr<Signal> signal_;  // shared with wake-ups that are on their way
  std::string in_;                  // read and not yet used
  std::string request_id_;
  Clock::time_point begun_{};
  int last_status_ = 200;
  bool first_ = true;
  bool timed_out_ = false;
  bool unread_ = false;  // the answer was a refusal; bytes may still be on their way
  bool is_event_stream_ = false;
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
