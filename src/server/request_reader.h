// Requests as they come off one connection: a head, then its body, each within its time and its
// size. What is wrong is told to the caller, who answers. I/O thread only. Private to server/ (it
// shows the socket library).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "server/client_stream.h"
#include "server/http_head.h"
#include "server/server.h"

namespace tidemill {

// There is nothing to answer: the client has gone, was silent, or speaks something else.
struct NoRequest {};

// Of a body: an HTTP status and what to say, where the framing or the time is wrong.
struct BodyProblem {
  int status = 400;
  std::string_view message;
};

class RequestReader {
 public:
  using Clock = std::chrono::steady_clock;
  using Head = std::variant<NoRequest, HttpHead, HeadProblem>;
  using Body = std::variant<NoRequest, std::string, BodyProblem, Error>;

  // Both outlive this. One that is reserved has kReservedTime for each wait.
  RequestReader(ClientStream& stream, const ServerOptions& options, bool is_reserved);

  boost::asio::awaitable<Head> read_head();
  boost::asio::awaitable<Body> read_body(const HttpHead& head);
  Clock::time_point begun() const { return begun_; }  // the last head: its first byte

 private:
  std::chrono::milliseconds patience(int64_t option_ms) const;
  std::optional<HeadProblem> hopeless() const;

  ClientStream& stream_;
  const ServerOptions& options_;
  const bool reserved_;
  std::string& in_;
  bool first_ = true;
  Clock::time_point begun_{};
};

}  // namespace tidemill
