// A generation request between its body and its answer: parses, submits, and turns what the stream
// brings into bytes. Runs on the text pool; the connection holds it and may let go at any time.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/schema.h"
#include "server/exchange.h"
#include "server/http_head.h"
#include "server/model_registry.h"
#include "server/routes.h"
#include "server/server_metrics.h"
#include "server/text_pool.h"

namespace tidemill {

// What every request of a server shares.
struct HandlerContext {
  const ModelRegistry& models;
  TextPool& pool;
  ServerMetrics& metrics;
};

class GenerateTask : public std::enable_shared_from_this<GenerateTask> {
 public:
  GenerateTask(const HandlerContext& context, Route route, HttpHead head, std::string body,
               std::string request_id, std::shared_ptr<Exchange> exchange);

  void start();
  // The connection has taken what there was: more may be made.
  void resume();
  // The client has left; what runs is cancelled.
  void abandon();

 private:
  void parse_and_submit();
  Result<ModelView> choose_model(const JsonValue& body) const;
  Result<ApiCall> parse(const JsonValue& body, const ModelFacts& facts) const;
  void admitted(ApiCall call, ResponseStream stream);
  void post(void (GenerateTask::*job)());
  void drain();
  void finish_whole();
  void fail(const Error& error);
  HeaderList timing_headers() const;
  void log_end(std::string_view outcome) const;

  const HandlerContext context_;
  const Route route_;
  const HttpHead head_;
  std::string body_;
  const std::string request_id_;
  const std::shared_ptr<Exchange> exchange_;  // shared with the connection
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();

  std::mutex mutex_;  // jobs of one request do not overlap
  bool abandoned_ = false;
  std::optional<ApiCall> call_;
  std::optional<ResponseStream> stream_;
  std::vector<TextEvent> events_;  // of a whole answer
  HeaderList headers_;
};

}  // namespace tidemill
