#include "server/client_watch.h"

#include <poll.h>
#include <sys/socket.h>

#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <new>

namespace tidemill {
namespace {

using Error_code = boost::system::error_code;
using tcp = boost::asio::ip::tcp;

constexpr size_t kMaxAheadBytes = 64 << 10;
constexpr std::chrono::milliseconds kInterval{100};

}  // namespace

struct ClientWatch::State {
  explicit State(const boost::asio::any_io_executor& executor) : timer(executor) {}

  boost::asio::steady_timer timer;
  int64_t watch = 0;  // the one that counts; a handler of an older one finds nothing to do
  bool left = false;
  std::function<void()> on_leave;
};

ClientWatch::ClientWatch(tcp::socket& socket, std::string& ahead, size_t max_requests)
    : socket_(socket),
      ahead_(ahead),
      max_requests_(max_requests),
      state_(std::make_shared<State>(socket.get_executor())) {}

ClientWatch::~ClientWatch() { stop(); }

void ClientWatch::start(std::function<void()> on_leave) {
  ++state_->watch;
  state_->left = false;
  state_->on_leave = std::move(on_leave);
  wait();
}

void ClientWatch::stop() {
  ++state_->watch;
  state_->on_leave = nullptr;
  state_->timer.cancel();
}

bool ClientWatch::client_left() const { return state_->left; }

void ClientWatch::left() {
  state_->left = true;
  state_->on_leave();
}

// An empty line ends a head; one inside a body makes the bound come sooner, which does no harm.
bool ClientWatch::holds_enough() const {
  constexpr std::string_view kEmptyLine = "\r\n\r\n";
  size_t requests = 0;
  for (size_t at = ahead_.find(kEmptyLine); at != std::string::npos;
       at = ahead_.find(kEmptyLine, at + kEmptyLine.size())) {
    ++requests;
  }
  return ahead_.size() >= kMaxAheadBytes || requests >= max_requests_;
}

void ClientWatch::wait() {
  if (holds_enough()) return wait_unread();
  const auto handler = [this, state = state_, watch = state_->watch](const Error_code& error) {
    if (error || state->watch != watch) return;  // this object may be gone
    try {
      read();
    } catch (const std::bad_alloc&) {  // costs this client alone, never the loop of all
      left();
    }
  };
  socket_.async_wait(tcp::socket::wait_read, handler);
}

void ClientWatch::read() {
  char bytes[4096];
  const auto got = ::recv(socket_.native_handle(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return wait();
  if (got <= 0) return left();
  ahead_.append(bytes, static_cast<size_t>(got));
  wait();
}

void ClientWatch::wait_unread() {
  state_->timer.expires_after(kInterval);
  state_->timer.async_wait([this, state = state_, watch = state_->watch](const Error_code& error) {
    if (error || state->watch != watch) return;  // this object may be gone
    pollfd client{.fd = socket_.native_handle(), .events = POLLRDHUP, .revents = 0};
    if (::poll(&client, 1, 0) > 0) return left();
    wait_unread();
  });
}

}  // namespace tidemill
