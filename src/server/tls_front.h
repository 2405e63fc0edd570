// TLS (1.2 and later) in front of connections that know nothing of it: a pair of sockets stands
// between the client, whose bytes are opened here, and the connection, which reads and writes in
// the clear. Without TLS none of this runs. Private to server/ (it shows the socket library).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "server/connection_context.h"
#include "server/server.h"

namespace tidemill {

class TlsFront {
 public:
  // Reads both files (PEM: a chain with the server's own certificate first; a key without a
  // password). Throws std::runtime_error with the file and what is wrong with it.
  explicit TlsFront(const TlsOptions& options);
  ~TlsFront();

  // From the handshake to the end of the connection. A client that does not speak TLS, or not in
  // time, is closed without a word. Never throws. This outlives it.
  boost::asio::awaitable<void> serve(boost::asio::ip::tcp::socket client,
                                     ConnectionContext& context);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
