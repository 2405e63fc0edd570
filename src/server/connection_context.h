// What the connections of one server share. Private to server/.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "base/metrics.h"
#include "server/front_gate.h"
#include "server/generate_handler.h"
#include "server/server.h"

namespace tidemill {

// I/O thread only, but for `draining`.
struct ConnectionContext {
  const ServerOptions& options;
  HandlerContext handler;
  FrontGate& gate;
  MetricsRegistry& metrics;
  const std::atomic<bool>& draining;
  int64_t num_connections = 0;
  int64_t num_exchanges = 0;  // requests whose head has come and that are not answered yet
};

// The last connections that fit are kept for health: they have little time for one request, which
// is not one that computes, and are closed behind its answer.
inline constexpr std::chrono::milliseconds kReservedTime{1000};
inline bool is_reserved(const ConnectionContext& context) {
  const ServerOptions& options = context.options;
  return context.num_connections > options.max_connections - options.reserved_connections;
}

// From a request's head to the end of its answer: a drain waits for it.
class Exchanging {
 public:
  explicit Exchanging(ConnectionContext& context) : context_(context) { ++context_.num_exchanges; }
  Exchanging(const Exchanging&) = delete;
  Exchanging& operator=(const Exchanging&) = delete;
  ~Exchanging() { --context_.num_exchanges; }

 private:
  ConnectionContext& context_;
};

}  // namespace tidemill
