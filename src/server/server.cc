#include "server/server.h"

#include <sys/resource.h>

#include <atomic>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <csignal>
#include <new>
#include <stdexcept>

#include "base/check.h"
#include "base/log.h"
#include "server/http_connection.h"
#include "server/tls_front.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using Error_code = boost::system::error_code;
using std::chrono::milliseconds;

constexpr milliseconds kDrainPoll{20};
constexpr milliseconds kAbortTime{1000};  // for steps to end, and for error records to be read
constexpr milliseconds kFlushTime{1000};  // for those of steps that do not
constexpr milliseconds kAcceptPause{50};  // when there is no room for another connection
constexpr int64_t kDescriptorReserve = 128;

// How many files may be open, of `wanted`; what the system leaves to us is raised when that helps.
int64_t open_files(int64_t wanted) {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return wanted;
  const auto needed = static_cast<rlim_t>(wanted);
  if (limit.rlim_cur < needed && limit.rlim_cur < limit.rlim_max) {
    rlimit raised = limit;
    raised.rlim_cur = std::min(needed, limit.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &raised) == 0) limit = raised;
  }
  return static_cast<int64_t>(std::min(limit.rlim_cur, needed));
}

JsonLimits json_limits(const ServerOptions& options) {
  return {.max_depth = static_cast<size_t>(options.max_json_depth),
          .max_values = static_cast<size_t>(options.max_json_values)};
}

}  // namespace

struct Server::State {
  State(const ServerOptions& server_options, ModelRegistry& model_registry,
        MetricsRegistry& registry)
      : options(server_options),
        models(model_registry),
        metrics(registry),
        tls(options.tls.certificate_file.empty() ? nullptr
                                                 : std::make_unique<TlsFront>(options.tls)),
        gate(options.gate, models, options.lmi),
        pool(options.num_text_threads),
        connections{.options = options,
                    .handler = {.models = models,
                                .pool = pool,
                                .metrics = metrics,
                                .lmi = options.lmi,
                                .json = json_limits(options)},
                    .gate = gate,
                    .metrics = registry,
                    .draining = draining},
        acceptor(io) {}

  void bind();
  asio::awaitable<void> accept();
  asio::awaitable<void> finish();

  ServerOptions options;
  ModelRegistry& models;
  ServerMetrics metrics;
  std::atomic<bool> draining{false};
  const std::unique_ptr<TlsFront> tls;  // null: in the clear
  FrontGate gate;
  // `io` holds the connections; as it goes, they let go of what still runs, and what a job of the
  // pool is at, that job ends. So both outlive it.
  TextPool pool;
  ConnectionContext connections;
  asio::io_context io{1};
  tcp::acceptor acceptor;
};

void Server::State::bind() {
  Error_code error;
  const auto address = asio::ip::make_address(options.host, error);
  if (error) {
    throw std::runtime_error(
        format("host is {}; it must be an IP address. 0.0.0.0 listens on every "
               "address, 127.0.0.1 for this machine alone.",
               options.host));
  }
  const tcp::endpoint endpoint(address, options.port);
  acceptor.open(endpoint.protocol());
  acceptor.set_option(tcp::acceptor::reuse_address(true));
  acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    throw std::runtime_error(format("{}:{} cannot be opened: {}. Name another with --port.",
                                    options.host, options.port, error.message()));
  }
  const int64_t files_each = tls == nullptr ? 1 : 3;
  const int64_t files = open_files(files_each * options.max_connections + kDescriptorReserve);
  const int64_t most = std::max<int64_t>(16, (files - kDescriptorReserve) / files_each);
  if (options.max_connections > most) {
    log_warning("max_connections is {}; {} open files allow {}. Raise the limit with ulimit -n.",
                options.max_connections, files, most);
    options.max_connections = most;
  }
  if (options.reserved_connections >= options.max_connections) {
    throw std::runtime_error(
        format("reserved_connections is {}; it must be less than max_connections, {}.",
               options.reserved_connections, options.max_connections));
  }
}

asio::awaitable<void> Server::State::accept() {
  asio::steady_timer pause(io);
  for (;;) {
    while (connections.num_connections >= options.max_connections) {
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(asio::use_awaitable);
    }
    Error_code error;
    tcp::socket socket(io);
    co_await acceptor.async_accept(socket, asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted) co_return;
    if (error) {  // out of descriptors: wait instead of spinning
      pause.expires_after(kAcceptPause);
      co_await pause.async_wait(asio::use_awaitable);
      continue;
    }
    socket.set_option(tcp::no_delay(true), error);
    try {
      if (tls == nullptr) {
        asio::co_spawn(io, serve_connection(std::move(socket), connections), asio::detached);
      } else {
        asio::co_spawn(io, tls->serve(std::move(socket), connections), asio::detached);
      }
    } catch (const std::bad_alloc&) {  // it costs this client alone; the next may find memory
      log_warning("no memory for a connection; it was closed");
    }
  }
}

// Lets what runs end, then ends the rest, then the server.
asio::awaitable<void> Server::State::finish() {
  asio::steady_timer timer(io);
  const auto wait_until =
      [&](std::chrono::steady_clock::time_point deadline) -> asio::awaitable<void> {
    while (connections.num_exchanges > 0 && std::chrono::steady_clock::now() < deadline) {
      timer.expires_after(kDrainPoll);
      co_await timer.async_wait(asio::use_awaitable);
    }
  };
  const auto begun = std::chrono::steady_clock::now();
  co_await wait_until(begun + milliseconds(options.drain_time_ms));
  if (connections.num_exchanges > 0) {
    log_warning("{} requests did not end while draining; they get an error record",
                connections.num_exchanges);
    const Error error{
        .kind = ErrorKind::kDraining, .field = "", .message = "the server is shutting down."};
    for (const ModelView& model : models.all()) {
      if (model.executor != nullptr) model.executor->abort_all(error);
    }
    co_await wait_until(std::chrono::steady_clock::now() + kAbortTime);
    for (const ModelView& model : models.all()) {
      if (model.executor != nullptr) model.executor->answer_all(error);
    }
    co_await wait_until(std::chrono::steady_clock::now() + kFlushTime);
  }
  io.stop();
}

Server::Server(const ServerOptions& options, ModelRegistry& models, MetricsRegistry& metrics)
    : state_(std::make_unique<State>(options, models, metrics)) {
  std::signal(SIGPIPE, SIG_IGN);
  state_->bind();
  asio::co_spawn(state_->io, state_->accept(), asio::detached);
}

Server::~Server() = default;

uint16_t Server::port() const { return state_->acceptor.local_endpoint().port(); }

void Server::run() { state_->io.run(); }

void Server::drain() {
  if (state_->draining.exchange(true)) return;
  for (const ModelView& model : state_->models.all()) {
    if (model.executor != nullptr) model.executor->drain();
  }
  asio::post(state_->io, [this] { asio::co_spawn(state_->io, state_->finish(), asio::detached); });
}

}  // namespace tidemill
