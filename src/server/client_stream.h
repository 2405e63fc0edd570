// The bytes of one connection, with a deadline on each wait: what was read and not yet used, reads
// that give up without closing the socket, writes that end when the reader takes nothing. I/O
// thread only. Private to server/ (it shows the socket library).
#pragma once

#include <atomic>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace tidemill {

// What a connection waits with. A handler of an older wait finds nothing to do. Shared with those
// that are on their way.
class Alarm : public std::enable_shared_from_this<Alarm> {
 public:
  // `executor` is that of an io_context.
  explicit Alarm(const boost::asio::any_io_executor& executor);

  // Whoever waits on call_timer goes on; deadlines stay what they are. A call may come late, when
  // the connection is long at its next read.
  void call() { call_timer.cancel(); }
  // The same from any thread, some time later; calls that have not come yet are one. Takes no
  // memory: without it an answer would lie there and nobody would know. While the io_context lives.
  void call_from_any_thread() noexcept;

  static constexpr size_t kSlotBytes = 128;  // of a call on its way

  boost::asio::steady_timer timer;  // the deadline of a read
  int64_t reads = 0;
  boost::asio::steady_timer write_timer;
  int64_t writes = 0;
  boost::asio::steady_timer call_timer;

 private:
  struct Call;

  boost::asio::io_context& context_;
  std::atomic<bool> called_{false};  // and the call has not come yet; it lies in the slot
  alignas(std::max_align_t) std::byte slot_[kSlotBytes];
};

class ClientStream {
 public:
  explicit ClientStream(boost::asio::ip::tcp::socket socket);

  boost::asio::ip::tcp::socket& socket() { return socket_; }
  std::string& ahead() { return ahead_; }  // read and not yet used
  // Shared with wake-ups that are on their way.
  const std::shared_ptr<Alarm>& alarm() const { return alarm_; }

  // Some bytes, at most `room`, behind ahead(); false at the end, at an error, or after `wait`.
  boost::asio::awaitable<bool> read_some(std::chrono::milliseconds wait, size_t room);
  bool timed_out() const { return timed_out_; }  // the last read_some()

  // What the socket takes at once, without a timer or a turn of the event loop; an error shows in
  // the write that follows. From any thread, while no other writes or closes.
  size_t send_now(std::string_view bytes);
  // All of it; false at an error, or when nothing was taken for `stall`.
  boost::asio::awaitable<bool> write(std::string bytes, std::chrono::milliseconds stall);
  bool stalled() const { return stalled_; }  // the last write()

  // Closing a socket on unread bytes resets it, and the client may lose the answer that says why it
  // was refused. So the rest is read for a moment, and forgotten.
  boost::asio::awaitable<void> linger(std::chrono::milliseconds time);

  void shutdown();

 private:
  void begin_read_deadline(std::chrono::milliseconds wait);
  void begin_write_deadline(std::chrono::milliseconds wait);

  boost::asio::ip::tcp::socket socket_;
  std::shared_ptr<Alarm> alarm_;
  std::string ahead_;
  bool timed_out_ = false;
  bool stalled_ = false;
};

}  // namespace tidemill
