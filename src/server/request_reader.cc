#include "server/request_reader.h"

#include <algorithm>

#include "base/check.h"
#include "server/connection_context.h"
#include "server/http_body.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;

constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr size_t kReadBytes = 32 << 10;
constexpr size_t kFirstReadBytes = 4 << 10;  // what an idle connection holds

milliseconds until(RequestReader::Clock::time_point time) {
  return std::chrono::duration_cast<milliseconds>(time - RequestReader::Clock::now());
}

}  // namespace

RequestReader::RequestReader(ClientStream& stream, const ServerOptions& options, bool is_reserved)
    : stream_(stream), options_(options), reserved_(is_reserved), in_(stream.ahead()) {}

milliseconds RequestReader::patience(int64_t option_ms) const {
  return reserved_ ? kReservedTime : milliseconds(option_ms);
}

asio::awaitable<RequestReader::Head> RequestReader::read_head() {
  const auto patience = this->patience(options_.header_timeout_ms);
  const auto keep_alive = first_ ? patience : milliseconds(options_.keep_alive_ms);
  first_ = false;
  begun_ = Clock::now();  // what was sent ahead begins now; what is still to come, when it comes
  bool has_begun = !in_.empty();
  size_t end = in_.find(kHeadEnd);
  while (end == std::string::npos) {
    if (is_other_protocol(in_)) co_return NoRequest{};
    if (const auto problem = hopeless()) co_return *problem;
    const auto wait = has_begun ? std::max(milliseconds(1), until(begun_ + patience)) : keep_alive;
    const bool got = co_await stream_.read_some(wait, in_.empty() ? kFirstReadBytes : kReadBytes);
    if (!got) {
      if (!stream_.timed_out() || in_.empty()) co_return NoRequest{};
      co_return HeadProblem{408, "the head did not arrive in time"};
    }
    if (!has_begun) begun_ = Clock::now();
    has_begun = true;
    end = in_.find(kHeadEnd);
  }
  if (is_other_protocol(in_)) co_return NoRequest{};
  const size_t size = end + kHeadEnd.size();
  if (size > static_cast<size_t>(options_.max_head_bytes)) {
    co_return HeadProblem{431, "head too long"};
  }
  auto parsed = parse_head(std::string_view(in_).substr(0, size), options_.head);
  if (const auto* problem = std::get_if<HeadProblem>(&parsed)) co_return *problem;
  in_.erase(0, size);
  co_return std::get<HttpHead>(std::move(parsed));
}

// What is wrong already with a head that has not ended yet.
std::optional<HeadProblem> RequestReader::hopeless() const {
  if (has_bare_line_feed(in_)) return HeadProblem{400, "line end"};  // might wait for ever
  const bool in_first_line = in_.find("\r\n") == std::string::npos;
  const auto line = static_cast<size_t>(options_.head.request_line);
  // One byte more: it may be the first of the line's end.
  if (in_first_line && in_.size() > line + 1) return HeadProblem{414, "request line"};
  if (in_.size() > static_cast<size_t>(options_.max_head_bytes)) {
    return HeadProblem{431, "head too long"};
  }
  return std::nullopt;
}

asio::awaitable<RequestReader::Body> RequestReader::read_body(const HttpHead& head) {
  HttpBody body(head, options_.max_request_size, options_.body);
  const auto begun = Clock::now();
  int64_t num_bytes = 0;
  for (;;) {
    const size_t used = body.put(in_);
    in_.erase(0, used);
    num_bytes += static_cast<int64_t>(used);
    if (body.state() != HttpBody::State::kMore) break;
    const milliseconds allowed(options_.body_grace_ms + num_bytes * 1000 / options_.body_min_rate);
    const auto wait =
        std::clamp(until(begun + allowed), milliseconds(1), patience(options_.body_timeout_ms));
    const bool got = co_await stream_.read_some(wait, kReadBytes);
    if (got) continue;
    if (!stream_.timed_out()) co_return NoRequest{};
    co_return BodyProblem{408, "the body did not arrive in time."};
  }
  if (body.state() == HttpBody::State::kTooLarge) {
    Error too_large{.kind = ErrorKind::kBodyTooLarge,
                    .field = "",
                    .message = format("the body has more bytes than max_request_size, {}.",
                                      options_.max_request_size)};
    co_return too_large;
  }
  if (body.state() == HttpBody::State::kMalformed) {
    co_return BodyProblem{400, "the body is not framed as HTTP asks."};
  }
  co_return body.take();
}

}  // namespace tidemill
