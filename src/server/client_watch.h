// Notices that a client leaves while its request is computed, by reading on. What it sends ahead is
// kept for the connection, up to a bound; beyond that nothing is read, and an end behind what is
// unread is seen by asking now and then. A half-closed connection counts as left: it looks the
// same. I/O thread only. Private to server/ (it shows the socket library).
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <memory>
#include <string>

namespace tidemill {

class ClientWatch {
 public:
  // `ahead` is what was read and not yet used, and holds at most so many requests. Both outlive
  // this.
  ClientWatch(boost::asio::ip::tcp::socket& socket, std::string& ahead, size_t max_requests);
  ~ClientWatch();  // stops
  ClientWatch(const ClientWatch&) = delete;
  ClientWatch& operator=(const ClientWatch&) = delete;

  void start(std::function<void()> on_leave);
  void stop();  // on_leave is not called any more
  bool client_left() const;

 private:
  struct State;

  void wait();
  void read();
  void wait_unread();
  bool holds_enough() const;
  void left();

  boost::asio::ip::tcp::socket& socket_;
  std::string& ahead_;
  const size_t max_requests_;
  std::shared_ptr<State> state_;  // shared with handlers that are on their way
};

}  // namespace tidemill
