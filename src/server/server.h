// The listening socket and everything behind it, up to a parsed request and from an answer's bytes.
// One I/O thread moves bytes; a small pool parses, renders, tokenises and detokenises.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "api/lmi_options.h"
#include "base/metrics.h"
#include "server/front_gate.h"
#include "server/heap_guard.h"
#include "server/http_body.h"
#include "server/http_head.h"
#include "server/model_registry.h"

namespace tidemill {

// Both or none; none: connections are in the clear.
struct TlsOptions {
  std::string certificate_file;
  std::string private_key_file;
};

struct ServerOptions {
  std::string host = "0.0.0.0";
  uint16_t port = 8080;  // 0: a free one
  TlsOptions tls;
  GateOptions gate;
  int64_t max_head_bytes = 32 << 10;  // request line and fields together
  HeadLimits head;
  int64_t max_request_size = 64 << 20;
  BodyLimits body;
  int64_t max_json_depth = 64;  // of a request's body
  int64_t max_json_values = 100'000;
  int64_t max_connections = 4096;         // at most what the descriptors allow
  int64_t reserved_connections = 8;       // the last of them, for health alone
  int64_t max_pipelined_requests = 8;     // read ahead while one is answered
  int64_t header_timeout_ms = 10'000;     // for a head to arrive
  int64_t body_timeout_ms = 60'000;       // between two pieces of a body
  int64_t body_grace_ms = 10'000;         // and on the whole: so long, and then for each second
  int64_t body_min_rate = 1024;           // so many bytes
  int64_t keep_alive_ms = 75'000;         // between two requests
  int64_t stall_timeout_ms = 30'000;      // for a reader to take something
  int64_t sse_ping_interval_ms = 15'000;  // 0: none
  int64_t drain_time_ms = 25'000;
  int64_t heap_budget = 0;          // bytes that requests may take; 0: what the memory plan leaves
  HeapGuard* heap = nullptr;        // outlives the server; null: nobody watches the heap
  bool wait_model_loading = false;  // the verb opens the port only when the model is ready
  int32_t num_text_threads = 2;
  LmiOptions lmi;  // of refusals; models have theirs in ModelFacts
};

class Server {
 public:
  // `models` and `metrics` outlive this. Binds at once; throws std::runtime_error when it cannot,
  // with the address, and for options that cannot be obeyed.
  Server(const ServerOptions& options, ModelRegistry& models, MetricsRegistry& metrics);
  ~Server();

  uint16_t port() const;

  // Serves on the calling thread until a drain is over.
  void run();
  // Any thread: health says 503, new requests are refused, running ones finish within drain_time;
  // what is left then gets its error record; then run() returns.
  void drain();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
