#include "server/answer_writer.h"

#include <boost/beast/http/status.hpp>

#include "base/check.h"
#include "server/access_log.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

std::string_view reason_phrase(int status) {
  return http::obsolete_reason(static_cast<http::status>(status)).data();
}

}  // namespace

AnswerWriter::AnswerWriter(ClientStream& stream, ConnectionContext& context, const RequestTag& tag)
    : stream_(stream), context_(context), tag_(tag), reserved_(is_reserved(context)) {}

asio::awaitable<bool> AnswerWriter::write(std::string bytes) {
  const milliseconds stall(context_.options.stall_timeout_ms);
  const bool sent = co_await stream_.write(std::move(bytes), stall);
  if (stream_.stalled()) context_.handler.metrics.stalled();
  co_return sent;
}

std::string AnswerWriter::head_text(const AnswerHead& answer, std::string_view framing,
                                    bool keep_alive) const {
  std::string text = format("HTTP/1.1 {} {}\r\nx-request-id: {}\r\n", answer.status,
                            reason_phrase(answer.status), tag_.id);
  if (!answer.content_type.empty()) text += format("Content-Type: {}\r\n", answer.content_type);
  for (const auto& [name, value] : answer.headers) text += format("{}: {}\r\n", name, value);
  text += context_.gate.header_lines();
  if (!framing.empty()) text += format("{}\r\n", framing);
  text += format("Connection: {}\r\n\r\n", keep_alive ? "keep-alive" : "close");
  return text;
}

bool AnswerWriter::keeps_alive(const HttpHead& head, int status) const {
  return head.keep_alive && status < 400 && !unread_ && !reserved_ && !context_.draining.load();
}

asio::awaitable<bool> AnswerWriter::send(const HttpHead& head, Answer answer,
                                         std::string_view pattern, std::string_view outcome) {
  const bool keep_alive = keeps_alive(head, answer.head.status);
  const std::string framing =
      answer.head.status == 204 ? "" : format("Content-Length: {}", answer.body.size());
  std::string bytes = head_text(answer.head, framing, keep_alive);
  if (head.method != "HEAD") bytes += answer.body;
  const bool sent = co_await write(std::move(bytes));
  count(head, pattern, answer.head.status);
  if (!outcome.empty()) {
    log_access({.request_id = tag_.id,
                .caller = tag_.caller,
                .route = pattern,
                .outcome = outcome,
                .status = answer.head.status,
                .total = Clock::now() - tag_.begun});
  }
  co_return sent&& keep_alive;
}

asio::awaitable<bool> AnswerWriter::send_error(const HttpHead& head, Error error,
                                               const Route& route) {
  if (generates(route.kind)) context_.handler.metrics.rejected(error_slug(error.kind));
  unread_ = true;
  const ErrorContext of_route{.dialect = route.dialect,
                              .request_id = tag_.id,
                              .by = RefusedBy::kFront,
                              .lmi = context_.handler.lmi};
  Answer answer = answer_error(error, of_route);
  co_return co_await send(head, std::move(answer), route.pattern, error_slug(error.kind));
}

asio::awaitable<bool> AnswerWriter::send_http_error(const HttpHead& head, int status,
                                                    std::string_view message, const Route& route) {
  if (generates(route.kind)) context_.handler.metrics.rejected(http_error_slug(status));
  unread_ = true;
  Answer answer = answer_http_error(status, message, route.dialect, tag_.id, context_.handler.lmi);
  co_return co_await send(head, std::move(answer), route.pattern, http_error_slug(status));
}

void AnswerWriter::count(const HttpHead& head, std::string_view pattern, int status) {
  const std::chrono::duration<double> seconds = Clock::now() - tag_.begun;
  context_.handler.metrics.answered(pattern, head.method, status, seconds.count());
}

void AnswerWriter::left_unread(const Route& route) {
  if (generates(route.kind)) context_.handler.metrics.left_before_submit();
  log_access({.request_id = tag_.id,
              .caller = tag_.caller,
              .route = route.pattern,
              .outcome = "client_left",
              .total = Clock::now() - tag_.begun});
}

}  // namespace tidemill
