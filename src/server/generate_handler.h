// A generation request (or one that only reads or writes tokens) between its body and its answer:
// parses, submits, and turns what the stream brings into bytes. Runs on the text pool; the
// connection holds it and may let go at any time.
//
// At most one job of a request is in the pool, and no job waits for another: a thread that finds
// the request at work leaves it to the thread that has it.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "api/error.h"
#include "api/schema.h"
#include "server/exchange.h"
#include "server/http_head.h"
#include "server/model_registry.h"
#include "server/request_id.h"
#include "server/routes.h"
#include "server/server_metrics.h"
#include "server/text_pool.h"

namespace tidemill {

// What every request of a server shares.
struct HandlerContext {
  const ModelRegistry& models;
  TextPool& pool;
  ServerMetrics& metrics;
  LmiOptions lmi{};
  JsonLimits json{};  // of a request's body
};

class GenerateTask : public std::enable_shared_from_this<GenerateTask> {
 public:
  GenerateTask(const HandlerContext& context, Route route, HttpHead head, std::string body,
               std::string request_id, Caller caller, std::shared_ptr<Exchange> exchange);

  void start();
  // The connection has taken what there was: more may be made.
  void resume();
  // The client has left; what runs is cancelled at once, whatever the pool is busy with.
  void abandon() noexcept;

 private:
  class Claim;
  enum class Phase { kNew, kAdmitted, kEnded };

  void wake() noexcept;
  void run();
  void advance();
  void let_go() noexcept;
  void parse_and_submit();
  void invoke();
  void submit(const ModelView& model, const JsonValue& body, std::vector<std::string> ignored);
  Result<ApiCall> parse(const JsonValue& body, const ModelFacts& facts) const;
  void answer_text(const JsonValue& body, const ModelView& model);
  Error refused_by(const ModelView& model, Error error);
  Error in_djl_words(Error error) const;
  void admitted(ApiCall call);
  void drain();
  bool has_room();
  void finish_whole();
  void fail(const Error& problem, RefusedBy by = RefusedBy::kModel);
  void fail_internally(const std::exception& error) noexcept;
  bool fail_in_stream(const Error& error, RefusedBy by);
  void end(std::string_view outcome) noexcept;
  HeaderList timing_headers() const;
  void log_end(std::string_view outcome) const;

  const HandlerContext context_;
  const Route route_;
  const HttpHead head_;
  std::string body_;
  const std::string request_id_;
  const Caller caller_;
  const std::shared_ptr<Exchange> exchange_;  // shared with the connection
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();

  std::shared_ptr<TextPool::Job> job_;  // shared with the pool while it is posted
  std::atomic<int64_t> num_wakes_{0};   // that no job has answered yet; the first posts it
  std::atomic<bool> abandoned_{false};
  std::atomic<bool> starved_{false};  // drain() left something unread until the socket has room
  std::atomic<bool> at_work_{false};  // whoever sets it owns what follows

  // Of a request that is answered here alone.
  std::optional<TextPool::SidePlace> side_place_;
  Phase phase_ = Phase::kNew;
  bool counted_ = false;  // as refused
  int64_t retry_after_ = 1;
  std::optional<ApiCall> call_;
  std::optional<ResponseStream> stream_;
  int64_t max_pending_bytes_ = 0;  // for a slow socket: stream_pause_size of the model's executor
  std::vector<TextEvent> events_;  // of a whole answer
  HeaderList headers_;
  // The type of a 0.25.0 answer, errors included; absent for today's answers.
  std::optional<std::string> compat_type_;
  // For the log:
  std::string model_name_;
  std::optional<FinishReason> finish_;  // of the choice that ended last
  int status_ = 200;
};

}  // namespace tidemill
