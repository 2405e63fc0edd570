#include "server/tls_front.h"

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <memory>
#include <stdexcept>

#include "base/check.h"
#include "base/log.h"
#include "server/http_connection.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
namespace ssl = boost::asio::ssl;
using asio::ip::tcp;
using Error_code = boost::system::error_code;
using Local = asio::local::stream_protocol;
using std::chrono::milliseconds;

constexpr size_t kPieceBytes = 16 << 10;      // of one TLS record
constexpr milliseconds kFarewell{1000};       // for a client to take our last word
constexpr milliseconds kReaderInterval{100};  // between two looks at a client that is not read

// One client: its TLS stream and our end of the pair. Shared by the two directions.
struct Pipe : std::enable_shared_from_this<Pipe> {
  Pipe(tcp::socket client, ssl::context& context)
      : tls(std::move(client), context),
        inner(tls.get_executor()),
        timer(tls.get_executor()),
        look_timer(tls.get_executor()) {}

  void close() {
    Error_code ignored;
    tls.lowest_layer().close(ignored);
    inner.close(ignored);
  }
  // Closes unless the timer is set again, or stopped, before. Holds the pipe: a call that is due
  // already cannot be taken back.
  void close_after(milliseconds wait) {
    timer.expires_after(wait);
    timer.async_wait([self = shared_from_this()](const Error_code& error) {
      if (!error) self->close();
    });
  }

  // Closes as soon as the client has left, while `unread`: an end behind bytes that nobody reads
  // is seen by asking alone.
  void close_when_left() {
    look_timer.expires_after(kReaderInterval);
    look_timer.async_wait([self = shared_from_this()](const Error_code& error) {
      if (error || !self->unread) return;
      pollfd client{
          .fd = self->tls.lowest_layer().native_handle(), .events = POLLRDHUP, .revents = 0};
      if (::poll(&client, 1, 0) > 0) return self->close();
      self->close_when_left();
    });
  }

  ssl::stream<tcp::socket> tls;
  Local::socket inner;
  asio::steady_timer timer;  // of whatever waits for the client to take something
  asio::steady_timer look_timer;
  bool unread = false;  // the connection has not taken yet what the client has sent
};

// The connection's end of a new pair; ours goes into the pipe.
tcp::socket connect_pair(Pipe& pipe) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    throw std::runtime_error("no descriptors for a TLS connection");
  }
  // The connection reads, writes, polls and shuts down, which every stream socket can.
  tcp::socket outer(pipe.tls.get_executor());
  Error_code error;
  pipe.inner.assign(Local(), ends[0], error);
  outer.assign(tcp::v4(), ends[1], error);
  return outer;
}

// Closes as a direction ends, an exception included: the other one would wait for ever.
struct Closing {
  explicit Closing(Pipe& open) : pipe(open) {}
  Closing(const Closing&) = delete;
  Closing& operator=(const Closing&) = delete;
  ~Closing() { pipe.close(); }
  Pipe& pipe;
};

// What the client sends goes in, until its end. There is no time for the connection to take it: it
// has one for each wait of its own, a request's deadline among them, and then takes the next bytes
// or goes, which ends the write.
asio::awaitable<void> copy_in(Pipe& pipe) {
  std::array<char, kPieceBytes> bytes;
  Error_code error;
  while (!error) {
    const size_t count = co_await pipe.tls.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    pipe.unread = true;
    pipe.close_when_left();
    co_await asio::async_write(pipe.inner, asio::buffer(bytes.data(), count),
                               asio::redirect_error(asio::use_awaitable, error));
    pipe.unread = false;
    pipe.look_timer.cancel();
  }
  pipe.inner.shutdown(Local::socket::shutdown_send, error);
}

asio::awaitable<void> move_in(std::shared_ptr<Pipe> pipe) {
  try {
    co_await copy_in(*pipe);
  } catch (const std::exception& error) {
    pipe->close();
    log_error("a TLS connection ended: {}", error.what());
  }
}

// What the connection says goes out, until its end; then the client is told that it was all.
asio::awaitable<void> move_out(Pipe& pipe, milliseconds stall) {
  const Closing closing(pipe);
  std::array<char, kPieceBytes> bytes;
  Error_code error;
  while (!error) {
    const size_t count = co_await pipe.inner.async_read_some(
        asio::buffer(bytes), asio::redirect_error(asio::use_awaitable, error));
    if (error) break;
    pipe.close_after(stall);
    co_await asio::async_write(pipe.tls, asio::buffer(bytes.data(), count),
                               asio::redirect_error(asio::use_awaitable, error));
    pipe.timer.cancel();
  }
  pipe.close_after(kFarewell);
  co_await pipe.tls.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
  pipe.timer.cancel();
}

// Counted among the connections while it is none yet.
struct Counted {
  explicit Counted(int64_t& count) : count_(count) { ++count_; }
  Counted(const Counted&) = delete;
  Counted& operator=(const Counted&) = delete;
  ~Counted() { --count_; }
  int64_t& count_;
};

asio::awaitable<bool> shake_hands(Pipe& pipe, ConnectionContext& context) {
  const Counted counted(context.num_connections);
  pipe.close_after(is_reserved(context) ? kReservedTime
                                        : milliseconds(context.options.header_timeout_ms));
  Error_code error;
  co_await pipe.tls.async_handshake(ssl::stream_base::server,
                                    asio::redirect_error(asio::use_awaitable, error));
  pipe.timer.cancel();
  co_return !error;
}

}  // namespace

struct TlsFront::State {
  ssl::context context{ssl::context::tls_server};
};

TlsFront::TlsFront(const TlsOptions& options) : state_(std::make_unique<State>()) {
  ssl::context& context = state_->context;
  SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_2_VERSION);
  context.set_options(ssl::context::no_compression | SSL_OP_NO_RENEGOTIATION);
  // Without this a key with a password would ask for it on the terminal.
  context.set_password_callback([](size_t, ssl::context::password_purpose) { return ""; });
  Error_code error;
  context.use_certificate_chain_file(options.certificate_file, error);
  if (error) {
    throw std::runtime_error(format("certificate_file {}: {}. It must be a PEM file.",
                                    options.certificate_file, error.message()));
  }
  context.use_private_key_file(options.private_key_file, ssl::context::pem, error);
  if (error) {
    throw std::runtime_error(
        format("private_key_file {}: {}. It must be the certificate's key, a PEM file without a "
               "password.",
               options.private_key_file, error.message()));
  }
}

TlsFront::~TlsFront() = default;

asio::awaitable<void> TlsFront::serve(tcp::socket client, ConnectionContext& context) {
  try {
    const auto pipe = std::make_shared<Pipe>(std::move(client), state_->context);
    const bool speaks_tls = co_await shake_hands(*pipe, context);
    if (!speaks_tls) co_return pipe->close();
    const auto executor = pipe->tls.get_executor();
    asio::co_spawn(executor, serve_connection(connect_pair(*pipe), context), asio::detached);
    asio::co_spawn(executor, move_in(pipe), asio::detached);
    co_await move_out(*pipe, milliseconds(context.options.stall_timeout_ms));
  } catch (const std::exception& error) {
    log_error("a TLS connection ended: {}", error.what());
  }
}

}  // namespace tidemill
