// A generation request between its body and its answer: clients that leave, several models, counts.
#include "server/generate_handler.h"

#include <gmock/gmock.h>

#include <future>

#include "base/test_waiting.h"
#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// The task alone, without a connection, in front of a text pool of one thread that can be kept
// busy.
class GenerateTaskTest : public ServerTest {
 protected:
  void open(std::vector<ScriptRule> rules, const ExecutorOptions& options = {}) {
    registry_.add("m", {"m"});
    load(std::move(rules), options);
  }

  std::shared_ptr<GenerateTask> make_task(std::string body) {
    Route route{
        .kind = RouteKind::kCompletion, .dialect = Dialect::kOpenAi, .pattern = "/v1/completions"};
    return std::make_shared<GenerateTask>(HandlerContext{registry_, pool_, server_metrics_},
                                          std::move(route), HttpHead{.method = "POST"},
                                          std::move(body), "id", Caller{}, exchange_);
  }

  // The pool does nothing else until release().
  void occupy() {
    std::promise<void> occupied;
    pool_.post([this, &occupied] {
      occupied.set_value();
      released_.get_future().wait();
    });
    occupied.get_future().wait();
  }
  void release() { released_.set_value(); }

  // When everything that was posted so far has run.
  void settle() {
    std::promise<void> settled;
    pool_.post([&settled] { settled.set_value(); });
    settled.get_future().wait();
  }

  std::promise<void> released_;
  ServerMetrics server_metrics_{metrics_};
  std::shared_ptr<Exchange> exchange_ = std::make_shared<Exchange>();
  TextPool pool_{1};
};

TEST_F(GenerateTaskTest, Q_3_WhoLeavesBeforeItsTurnIsNeverSubmitted) {
  open({scripted("*", "ok")});
  const auto task = make_task(R"({"prompt":"x"})");
  occupy();
  task->start();
  task->abandon();
  release();
  settle();
  EXPECT_EQ(metric("vllm:prompt_tokens_total"), 0);
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 1);  // ME-5: it was one, and it ended
  EXPECT_THAT(metrics_.text(),
              HasSubstr("tidemill:requests_rejected_total{reason=\"client_left\"} 1\n"));
}

TEST_F(GenerateTaskTest, Q_4_WhoLeavesIsLetGoThoughThePoolIsBusy) {
  open({scripted("*", std::string(3000, 'z'), 5)});
  const auto task = make_task(R"({"prompt":"x","max_tokens":3000})");
  task->start();
  ASSERT_TRUE(comes_true([&] { return executor_->stats().running > 0; }));
  occupy();
  task->abandon();
  EXPECT_TRUE(becomes_idle());
  release();
  EXPECT_EQ(metric("tidemill:requests_cancelled_total"), 1);
}

TEST_F(GenerateTaskTest, Q_5_WhoLeavesAtAnyMomentIsCountedOnceAndHoldsNothing) {
  open({scripted("*", "abcdefgh")});
  constexpr int kRequests = 300;
  for (int i = 0; i < kRequests; ++i) {
    exchange_ = std::make_shared<Exchange>();
    const auto task = make_task(R"({"prompt":"x","max_tokens":8,"stream":true})");
    task->start();
    for (int pause = 0; pause < i * 20; ++pause) task->resume();  // later and later
    task->abandon();
  }
  settle();
  EXPECT_TRUE(becomes_idle());
  const double never_submitted = metric("tidemill:requests_rejected_total");
  EXPECT_EQ(never_submitted + metric("vllm:request_success_total"), kRequests);
}

TEST_F(GenerateTaskTest, Q_6_WhatASlowReaderLeftUnreadGoesOnWhenThereIsRoom) {
  constexpr size_t kMostPending = 256 * 1024;
  constexpr int kTokens = 3000;
  open({scripted("*", std::string(kTokens, 'z'))});
  const auto task = make_task(
      R"({"prompt":"x","max_tokens":3000,"stream":true,"logprobs":20,"ignore_eos":true})");
  task->start();
  ASSERT_TRUE(comes_true([&] { return exchange_->pending_bytes() > kMostPending; }));
  ASSERT_TRUE(becomes_idle());  // nobody calls the task any more
  std::string all;
  EXPECT_TRUE(comes_true([&] {
    const Exchange::Output output = exchange_->take();
    all += output.body;
    task->resume();
    return output.ended;
  }));
  int tokens = 0;
  for (size_t at = all.find("\"z\":"); at != std::string::npos; at = all.find("\"z\":", at + 1)) {
    ++tokens;
  }
  EXPECT_EQ(tokens, kTokens);
  EXPECT_TRUE(all.ends_with("data: [DONE]\n\n"));
}

TEST_F(GenerateTaskTest, Q_6_BytesThatWaitForASocketAreBoundedByTheStreamsPause) {
  ExecutorOptions options;
  options.stream_pause_bytes = 1500;
  open({scripted("*", "z")}, options);
  for (const int more : {-1, 0, 1}) {
    exchange_ = std::make_shared<Exchange>();
    const size_t waiting = static_cast<size_t>(1500 + more);
    exchange_->push(std::string(waiting, 'x'));
    const auto task = make_task(R"({"prompt":"x","stream":true})");
    task->start();
    settle();
    ASSERT_TRUE(becomes_idle());
    settle();
    EXPECT_EQ(exchange_->pending_bytes() > waiting, more <= 0) << more;
    if (more <= 0) continue;
    exchange_->take();
    task->resume();
    settle();
    EXPECT_GT(exchange_->pending_bytes(), 0);
  }
}

TEST_F(GenerateTaskTest, TimesCountFromTheRequestsArrival) {
  open({scripted("*", "ok")});
  occupy();
  const auto task = make_task(R"({"prompt":"x"})");
  task->start();
  const auto later = std::chrono::steady_clock::now() + std::chrono::milliseconds(30);
  ASSERT_TRUE(comes_true([&] { return std::chrono::steady_clock::now() >= later; }));
  release();
  ASSERT_TRUE(comes_true([&] { return metric("vllm:e2e_request_latency_seconds_count") > 0; }));
  EXPECT_GE(metric("vllm:e2e_request_latency_seconds_sum"), 0.030);
  EXPECT_GE(metric("vllm:time_to_first_token_seconds_sum"), 0.030);
}

class GenerateOverHttpTest : public ServerTest {};

TEST_F(GenerateOverHttpTest, RE_6_AnswersHaveIdsOfTheirOwnWhateverTheClientCallsItsRequests) {
  start({scripted("*", "ok")});
  const auto id_of = [&] {
    const std::string answer = exchange(
        post("/v1/completions", R"({"prompt":"x"})", "x-request-id: a\r\nConnection: close\r\n"));
    EXPECT_THAT(answer, HasSubstr("x-request-id: a\r\n"));
    const size_t at = answer.find("\"id\":\"cmpl-");
    return answer.substr(at, answer.find(',', at) - at);
  };
  EXPECT_NE(id_of(), id_of());
}

TEST_F(GenerateOverHttpTest, DjlsRoutesUseTheOriginalsWords) {
  ExecutorOptions options;
  options.job_queue_size = 0;
  options.scheduler.max_sequences = 1;
  registry_.add("m", {"m"});
  load({scripted("*", std::string(3000, 'z'), 5)}, options);
  listen({});
  const std::string close = "Connection: close\r\n";
  const std::string unknown = exchange(post("/predictions/foo", R"({"inputs":"x"})", close));
  EXPECT_THAT(unknown, StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(unknown, HasSubstr("\"message\": \"Model or workflow not found: foo\""));
  Client running(server_->port());
  running.send(post("/invocations", R"({"inputs":"x","parameters":{"max_new_tokens":3000}})"));
  while (executor_->stats().running == 0) std::this_thread::yield();
  const std::string full = exchange(post("/invocations", R"({"inputs":"x"})", close));
  EXPECT_THAT(full, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(full, HasSubstr("\"message\": \"Worker queue capacity exceeded for model: m\""));
  EXPECT_THAT(full, HasSubstr("Retry-After: 1\r\n"));
  registry_.add("n", {"n"});
  const std::string unnamed = exchange(post("/invocations", R"({"inputs":"x"})", close));
  EXPECT_THAT(unnamed, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(unnamed, HasSubstr("\"code\": 400"));
  EXPECT_THAT(unnamed, HasSubstr("Parameter model_name is required."));
}

TEST_F(GenerateOverHttpTest, TwoModelsOnOnePortAnswerSideBySide) {
  registry_.add("m", {"m"});
  load({scripted("*", "this is m", 1)});
  const std::unique_ptr<Executor> other = make_executor({scripted("*", "here is n", 1)}, "n");
  ModelFacts facts{.name = "n", .served_names = {"n"}, .limits = other->limits()};
  registry_.set_ready(registry_.add("n", {"n"}), facts, *other);
  ServerOptions options;
  options.num_text_threads = 1;
  listen(options);
  const auto ask = [this](const std::string& model, int way) {
    const std::string close = "Connection: close\r\n", named = R"(,"model":")" + model + "\"}";
    if (way == 0) return exchange(post("/predictions/" + model, R"({"inputs":"x"})", close));
    if (way == 1) return exchange(post("/v1/completions", R"({"prompt":"x")" + named, close));
    const std::string messages = R"({"messages":[{"role":"user","content":"x"}])";
    return exchange(post("/v1/chat/completions", messages + named, close));
  };
  std::vector<std::thread> clients;
  std::atomic<int> wrong{0};
  for (int i = 0; i < 24; ++i) {
    clients.emplace_back([&, i] {
      const std::string model = i % 2 == 0 ? "m" : "n";
      const std::string text = model == "m" ? "this is m" : "here is n";
      const std::string answer = ask(model, i % 3);
      if (answer.find(text) == std::string::npos) ++wrong;
    });
  }
  for (std::thread& client : clients) client.join();
  EXPECT_EQ(wrong.load(), 0);
  for (const char* model : {"m", "n"}) {
    EXPECT_THAT(metrics_.text(),
                HasSubstr(format("vllm:request_success_total{{model_name=\"{}\",engine=\"0\","
                                 "finished_reason=\"stop\"}} 12\n",
                                 model)));
  }
  server_->drain();
  thread_.join();
}

}  // namespace
}  // namespace tidemill
