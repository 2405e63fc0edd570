#include "server/client_stream.h"

#include <sys/socket.h>

#include <boost/asio/execution.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

namespace tidemill {
namespace {

namespace asio = boost::asio;
using Error_code = boost::system::error_code;
using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kLingerBytes = 32 << 10;

// Memory for one object at a time, which lies there already.
template <typename T>
struct SlotAllocator {
  using value_type = T;

  explicit SlotAllocator(std::byte* of) : slot(of) {}
  template <typename Other>
  SlotAllocator(const SlotAllocator<Other>& other) : slot(other.slot) {}

  T* allocate(size_t) {
    static_assert(sizeof(T) <= Alarm::kSlotBytes && alignof(T) <= alignof(std::max_align_t));
    return reinterpret_cast<T*>(slot);
  }
  void deallocate(T*, size_t) {}
  bool operator==(const SlotAllocator&) const = default;

  std::byte* slot;
};

}  // namespace

// On its way through the queue of the io_context, in the alarm's slot. It is moved out of there
// before it runs, so the slot is free again when the next call may be made.
struct Alarm::Call {
  void operator()() const {
    alarm->called_.store(false);
    alarm->call();
  }
  std::shared_ptr<Alarm> alarm;
};

Alarm::Alarm(const asio::any_io_executor& executor)
    : timer(executor),
      write_timer(executor),
      call_timer(executor),
      context_(static_cast<asio::io_context&>(asio::query(executor, asio::execution::context))) {}

void Alarm::call_from_any_thread() noexcept {
  if (called_.exchange(true)) return;
  const SlotAllocator<void*> slot(slot_);
  asio::require(context_.get_executor(), asio::execution::blocking.never,
                asio::execution::allocator(slot))
      .execute(Call{shared_from_this()});
}

ClientStream::ClientStream(asio::ip::tcp::socket socket)
    : socket_(std::move(socket)), alarm_(std::make_shared<Alarm>(socket_.get_executor())) {}

// Cancels and does not close: a 408 can still be said.
void ClientStream::begin_read_deadline(milliseconds wait) {
  timed_out_ = false;
  alarm_->timer.expires_after(wait);
  alarm_->timer.async_wait([this, alarm = alarm_, read = ++alarm_->reads](const Error_code& error) {
    if (error || alarm->reads != read) return;  // this object may be gone
    timed_out_ = true;
    Error_code ignored;
    socket_.cancel(ignored);
  });
}

// Closes: nothing can be said to a client that takes nothing, and whoever watches it reads on.
void ClientStream::begin_write_deadline(milliseconds wait) {
  alarm_->write_timer.expires_after(wait);
  alarm_->write_timer.async_wait(
      [this, alarm = alarm_, write = ++alarm_->writes](const Error_code& error) {
        if (error || alarm->writes != write) return;  // this object may be gone
        stalled_ = true;
        Error_code ignored;
        socket_.close(ignored);
      });
}

asio::awaitable<bool> ClientStream::read_some(milliseconds wait, size_t room) {
  const size_t before = ahead_.size();
  ahead_.resize(before + room);
  begin_read_deadline(wait);
  Error_code error;
  const size_t count = co_await socket_.async_read_some(
      asio::buffer(ahead_.data() + before, room), asio::redirect_error(asio::use_awaitable, error));
  ++alarm_->reads;
  alarm_->timer.cancel();
  ahead_.resize(before + count);
  co_return !error;
}

// 1000 streams of 20 tokens a second are 20,000 of these.
size_t ClientStream::send_now(std::string_view bytes) {
  const auto sent =
      ::send(socket_.native_handle(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent > 0 ? static_cast<size_t>(sent) : 0;
}

asio::awaitable<bool> ClientStream::write(std::string bytes, milliseconds stall) {
  stalled_ = false;
  size_t sent = send_now(bytes);
  if (sent == bytes.size()) co_return true;
  Error_code error;
  while (sent < bytes.size() && !error) {  // whoever takes a little is no stall
    begin_write_deadline(stall);
    sent +=
        co_await socket_.async_write_some(asio::buffer(bytes.data() + sent, bytes.size() - sent),
                                          asio::redirect_error(asio::use_awaitable, error));
    ++alarm_->writes;
  }
  alarm_->write_timer.cancel();
  co_return !error;
}

asio::awaitable<void> ClientStream::linger(milliseconds time) {
  Error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
  const auto deadline = Clock::now() + time;
  bool more = true;
  while (more && Clock::now() < deadline) {
    ahead_.clear();
    const auto left = std::chrono::duration_cast<milliseconds>(deadline - Clock::now());
    more = co_await read_some(left + milliseconds(1), kLingerBytes);
  }
}

void ClientStream::shutdown() {
  Error_code ignored;
  socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
}

}  // namespace tidemill
