// Answers on their way to one client: their heads, whether the connection stays, and what the
// metrics and the log say of each. I/O thread only. Private to server/ (it shows the socket
// library).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <string>
#include <string_view>

#include "server/client_stream.h"
#include "server/connection_context.h"
#include "server/http_head.h"
#include "server/pages.h"
#include "server/request_id.h"
#include "server/routes.h"

namespace tidemill {

// The request that is answered, as headers and log lines name it.
struct RequestTag {
  std::string id;
  Caller caller;
  std::chrono::steady_clock::time_point begun{};
};

class AnswerWriter {
 public:
  // All outlive this; `tag` is the owner's to fill for each request.
  AnswerWriter(ClientStream& stream, ConnectionContext& context, const RequestTag& tag);

  // True when all of it was taken and the connection may serve another request. `outcome` is for
  // the log's line; empty when the task that made the answer writes it.
  boost::asio::awaitable<bool> send(const HttpHead& head, Answer answer, std::string_view pattern,
                                    std::string_view outcome);
  // The same for an error, which leaves what the client still sends unread.
  boost::asio::awaitable<bool> send_error(const HttpHead& head, Error error, const Route& route);
  // And for what only HTTP can get wrong.
  boost::asio::awaitable<bool> send_http_error(const HttpHead& head, int status,
                                               std::string_view message, const Route& route);
  // Some bytes; false when the client does not take them.
  boost::asio::awaitable<bool> write(std::string bytes);
  // `framing`: the header line that says where the body ends; may be empty.
  std::string head_text(const AnswerHead& answer, std::string_view framing, bool keep_alive) const;

  bool keeps_alive(const HttpHead& head, int status) const;
  void count(const HttpHead& head, std::string_view pattern, int status);
  // The client has gone before its request was whole: it is one, and that is its ending.
  void left_unread(const Route& route);

  // The answer leaves bytes of its request unread that may still be on their way: the connection
  // closes behind it, and says so.
  bool unread() const { return unread_; }
  void leave_unread() { unread_ = true; }

 private:
  ClientStream& stream_;
  ConnectionContext& context_;
  const RequestTag& tag_;
  const bool reserved_;
  bool unread_ = false;
};

}  // namespace tidemill
