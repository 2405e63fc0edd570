// The server as its clients see it: real sockets, real scheduler and streams, a script for a model.
#include "server/server.h"

#include <gmock/gmock.h>

#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr std::string_view kChunkEnd = "\r\n0\r\n\r\n";

TEST_F(ServerTest, PingHasTheOriginalsBytesAndHeaders) {
  start({});
  const std::string answer = exchange(get("/ping"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n{\n  \"m\": {\n    \"status\": \"Healthy\"\n  }\n}\n"));
  EXPECT_THAT(answer, HasSubstr("Pragma: no-cache\r\n"));
  EXPECT_THAT(answer, HasSubstr("Cache-Control: no-cache; no-store, must-revalidate, private\r\n"));
  EXPECT_THAT(answer, HasSubstr("Expires: Thu, 01 Jan 1970 00:00:00 UTC\r\n"));
}

TEST_F(ServerTest, L_1_HealthTellsLoadingAndFailed) {
  const size_t model = registry_.add("m", {"m"});
  registry_.set_progress(model, "convert", 61);
  listen({});
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(exchange(get("/health")), HasSubstr("\"phase\":\"convert\",\"percent\":61"));
  EXPECT_THAT(exchange(get("/health/live")), StartsWith("HTTP/1.1 200 "));
  const std::string refused = exchange(post("/v1/completions", R"({"prompt":"x"})"));
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(refused, HasSubstr("Retry-After: "));
  EXPECT_THAT(refused, HasSubstr("model_loading"));
  registry_.set_failed(model, "no such file");
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(exchange(get("/health/live")), StartsWith("HTTP/1.1 500 "));
}

TEST_F(ServerTest, CO_1_HeadHasTheHeadersAndNoBody) {
  start({});
  const std::string answer =
      exchange("HEAD /ping HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
  EXPECT_THAT(answer, HasSubstr("Content-Length: 41\r\n"));
  EXPECT_THAT(answer, EndsWith("\r\n\r\n"));
}

TEST_F(ServerTest, CO_8_TheClientsRequestIdIsEchoedWhenItIsFit) {
  start({});
  EXPECT_THAT(exchange(get("/health", "x-request-id: a.b:c/1\r\n")),
              HasSubstr("x-request-id: a.b:c/1\r\n"));
  EXPECT_THAT(exchange(get("/health", "x-request-id: a b\r\n")), Not(HasSubstr("a b")));
}

TEST_F(ServerTest, TheDocumentOfTheApiIsServed) {
  start({});
  const std::string answer = exchange(get("/openapi.json"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, HasSubstr(R"("openapi":"3.1.0")"));
}

TEST_F(ServerTest, CO_12_AWholeAnswerHasItsLengthAndItsTimes) {
  start({scripted("weather", "It rains.")});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"weather?","model":"alias"})"));
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_THAT(head, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(head, HasSubstr("Content-Length: "));
  for (const char* name :
       {"x-queue-time: ", "x-prefill-time: ", "x-decode-time: ", "x-total-time: "}) {
    EXPECT_THAT(head, HasSubstr(name));
  }
  EXPECT_THAT(client.read_until("}}"), HasSubstr("\"text\":\"It rains.\""));
}

TEST_F(ServerTest, SS_1_AnEventStreamIsChunkedAndEndsWell) {
  start({scripted("*", "abc")});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  const std::string head = client.read_until("\r\n\r\n");
  EXPECT_THAT(head, HasSubstr("Content-Type: text/event-stream; charset=utf-8\r\n"));
  EXPECT_THAT(head, HasSubstr("Cache-Control: no-cache\r\n"));
  EXPECT_THAT(head, HasSubstr("X-Accel-Buffering: no\r\n"));
  EXPECT_THAT(head, HasSubstr("Transfer-Encoding: chunked\r\n"));
  EXPECT_THAT(head, Not(HasSubstr("Content-Length")));
  EXPECT_THAT(client.read_until(kChunkEnd), HasSubstr("data: [DONE]\n\n"));
  client.send(get("/health"));  // and the connection is good for another
  EXPECT_THAT(client.read_all(), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ServerTest, SS_5_AChunkHoldsWholeEvents) {
  start({scripted("*", std::string(300, 'y'), 1)});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true,"max_tokens":200})"));
  client.read_until("\r\n\r\n");
  for (;;) {
    const size_t size = std::stoul(client.read_until("\r\n"), nullptr, 16);
    const std::string chunk = client.read_until("\r\n");
    if (size == 0) break;
    ASSERT_EQ(chunk.size(), size + 2);
    EXPECT_THAT(chunk, StartsWith("data: "));
    EXPECT_THAT(chunk, EndsWith("\n\n\r\n"));
  }
}

TEST_F(ServerTest, SS_4_AQuietStreamIsKeptAliveByComments) {
  ServerOptions options;
  options.sse_ping_interval_ms = 20;
  start({scripted("*", "ab", 1500)}, options);
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  EXPECT_THAT(client.read_until("data: "), HasSubstr("\r\n: ping\n\n\r\n"));
}

TEST_F(ServerTest, ER_6_AnErrorBeforeTheFirstEventHasItsStatus) {
  ScriptRule bad = scripted("*", "abc");
  bad.fail_at = 0;
  start({bad});
  const std::string answer = exchange(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 500 "));
  EXPECT_THAT(answer, HasSubstr("x-should-retry: false\r\n"));
  EXPECT_THAT(answer, HasSubstr("Content-Type: application/json\r\n"));
}

TEST_F(ServerTest, ER_7_AnErrorInsideAStreamIsARecordAndAProperEnd) {
  ScriptRule bad = scripted("*", "abcdef", 2);
  bad.fail_at = 3;
  start({bad});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  const std::string answer = client.read_until(kChunkEnd);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(answer, HasSubstr("numerical_error"));
  EXPECT_THAT(answer, HasSubstr("data: [DONE]\n\n"));
}

TEST_F(ServerTest, H_7_PipelinedRequestsAreAnsweredInOrder) {
  start({scripted("one", "1111"), scripted("two", "2222")});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"one"})") +
              post("/v1/completions", R"({"prompt":"two","stream":true})") + get("/ping"));
  const std::string all = client.read_all();
  EXPECT_LT(all.find("1111"), all.find("\"2"));
  EXPECT_LT(all.find("[DONE]"), all.find("Healthy"));
}

TEST_F(ServerTest, H_2_ABodyOverTheLimitIsRefusedUnread) {
  ServerOptions options;
  options.max_request_size = 100;
  start({scripted("*", "ok")}, options);
  const std::string head = "POST /v1/completions HTTP/1.1\r\nHost: h\r\n";
  const std::string answer = exchange(head + "Content-Length: 101\r\n\r\n");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 413 "));
  EXPECT_THAT(answer, HasSubstr("body_too_large"));
  EXPECT_THAT(exchange(head + "Expect: 100-continue\r\nContent-Length: 101\r\n\r\n"),
              StartsWith("HTTP/1.1 413 "));  // H-11
}

TEST_F(ServerTest, H_3_AChunkedBodyIsRefusedAtTheByte) {
  ServerOptions options;
  options.max_request_size = 100;
  start({scripted("*", "ok")}, options);
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  const std::string sized = R"({"prompt":")" + std::string(87, 'x') + R"("})";
  ASSERT_EQ(sized.size(), 100u);
  Client client(server_->port());
  client.send(head + "64\r\n" + sized + "\r\n0\r\n\r\n");
  EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(exchange(head + "65\r\n" + sized + " \r\n"), StartsWith("HTTP/1.1 413 "));
}

TEST_F(ServerTest, H_4_FloodsOfChunksAndLongExtensionsAreRefused) {
  start({scripted("*", "ok")});
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
  std::string flood;
  for (int i = 0; i < 65'537; ++i) flood += "1\r\n \r\n";
  const std::string good = "e\r\n{\"prompt\":\"x\"}\r\n";  // what follows it is all that is wrong
  for (const std::string& rest :
       {flood, "1;" + std::string(300, 'e') + "\r\n", "1;" + std::string(20'000, 'e'),
        std::string("zz\r\n"), "0\r\nX: " + std::string(20'000, 't'),
        "0\r\nX: " + std::string(70'000, 't') + "\r\n\r\n"}) {
    const std::string answer = exchange(head + good + rest);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 "));
    EXPECT_THAT(answer, HasSubstr("the body is not framed as HTTP asks"));
  }
}

TEST_F(ServerTest, H_5_WhatFollowsAMalformedHeadIsNeverARequest) {
  start({});
  const std::string answer =
      exchange("GET /ping HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n" +
               get("/ping"));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 400 "));
  EXPECT_THAT(answer, Not(HasSubstr("Healthy")));
}

TEST_F(ServerTest, H_8_OtherProtocolsAreClosedWithoutAWord) {
  start({});
  EXPECT_EQ(exchange("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), "");
  EXPECT_EQ(exchange("\x16\x03\x01\x02"), "");
  EXPECT_THAT(exchange(post("/v1/completions", "{}", "Content-Encoding: gzip\r\n")),
              StartsWith("HTTP/1.1 415 "));
}

TEST_F(ServerTest, H_11_ContinueComesWhenTheHeadIsGood) {
  start({scripted("*", "ok")});
  Client client(server_->port());
  client.send(
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\n"
      "Content-Length: 14\r\n\r\n");
  EXPECT_EQ(client.read_until("\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send(R"({"prompt":"x"})");
  EXPECT_THAT(client.read_until("\r\n\r\n"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(ServerTest, H_5_ABareLineFeedIsRefusedAtOnce) {
  start({});
  EXPECT_THAT(exchange("GET /ping HTTP/1.1\nHost: h\n\n"), StartsWith("HTTP/1.1 400 "));
}

TEST_F(ServerTest, H_1_AHeadOverItsLimitIsRefusedHoweverItArrives) {
  ServerOptions options;
  options.max_head_bytes = 1000;
  start({}, options);
  const std::string bare = get("/ping", "X: \r\n");
  const std::string fits = get("/ping", "X: " + std::string(1000 - bare.size(), 'x') + "\r\n");
  ASSERT_EQ(fits.size(), 1000u);
  EXPECT_THAT(exchange(fits), StartsWith("HTTP/1.1 200 "));
  const std::string over = get("/ping", "X: " + std::string(1001 - bare.size(), 'x') + "\r\n");
  EXPECT_THAT(exchange(over), StartsWith("HTTP/1.1 431 "));
}

TEST_F(ServerTest, TheServerMayGoWhileClientsAreStillThere) {
  ServerOptions options;
  options.drain_time_ms = 0;
  start({scripted("*", std::string(3000, 'z'), 5)}, options);
  Client idle(server_->port()), half(server_->port()), running(server_->port());
  half.send("POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{");
  running.send(post("/v1/completions", R"({"prompt":"x","max_tokens":3000})"));
  while (executor_->stats().running == 0) std::this_thread::yield();
  server_->drain();
  thread_.join();
  server_.reset();
  EXPECT_TRUE(becomes_idle());
}

TEST_F(ServerTest, H_6_ASlowHeadAndASlowBodyEndInTime) {
  ServerOptions options;
  options.header_timeout_ms = 50;
  options.body_timeout_ms = 50;
  start({}, options);
  EXPECT_THAT(exchange("GET /ping HT"), StartsWith("HTTP/1.1 408 "));
  EXPECT_THAT(exchange("POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n{"),
              StartsWith("HTTP/1.1 408 "));
  EXPECT_EQ(exchange(""), "");
}

TEST_F(ServerTest, Q_4_AClientThatLeavesFreesWhatItHeld) {
  start({scripted("*", std::string(3000, 'z'), 5)});
  for (const char* stream : {"true", "false"}) {
    {
      Client client(server_->port());
      client.send(post("/v1/completions",
                       R"({"prompt":"x","max_tokens":3000,"stream":)" + std::string(stream) + "}"));
      while (executor_->stats().running == 0) std::this_thread::yield();
    }
    EXPECT_TRUE(becomes_idle()) << "stream " << stream;
  }
}

TEST_F(ServerTest, Q_4_AClientThatPipelinesAndLeavesIsNoticedToo) {
  start({scripted("*", std::string(3000, 'z'), 5)});
  {
    Client client(server_->port());
    client.send(post("/v1/completions", R"({"prompt":"x","max_tokens":3000})") + get("/ping"));
    while (executor_->stats().running == 0) std::this_thread::yield();
  }
  EXPECT_TRUE(becomes_idle());
}

TEST_F(ServerTest, H_12_AnUploadThatBreaksOffIsNeverEnqueued) {
  start({scripted("*", "ok")});
  {
    Client client(server_->port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n{\"pro");
  }
  EXPECT_THAT(exchange(get("/metrics")),
              HasSubstr("vllm:prompt_tokens_total{model_name=\"m\",engine=\"0\"} 0\n"));
}

TEST_F(ServerTest, S_2_DrainingFinishesWhatRunsAndRefusesTheNew) {
  start({scripted("*", "abcdefgh", 20)});
  Client running(server_->port());
  running.send(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  running.read_until("data: ");
  server_->drain();
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 503 "));
  const std::string refused = exchange(post("/v1/completions", R"({"prompt":"x"})"));
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(refused, HasSubstr("draining"));
  EXPECT_THAT(running.read_until(kChunkEnd), HasSubstr("[DONE]"));
  thread_.join();
}

TEST_F(ServerTest, S_2_ARequestWhoseBodyIsStillComingIsAnswered) {
  start({});
  Client client(server_->port());
  const std::string body = R"({"prompt":"x"})";
  client.send(
      format("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n"
             "Expect: 100-continue\r\n\r\n",
             body.size()));
  client.read_until("100 Continue\r\n\r\n");
  server_->drain();
  EXPECT_THAT(exchange(get("/health/live")), StartsWith("HTTP/1.1 200 "));
  client.send(body);
  EXPECT_THAT(client.read_all(),
              testing::AllOf(StartsWith("HTTP/1.1 503 "), HasSubstr("draining")));
  thread_.join();
}

TEST_F(ServerTest, S_2_WhatDoesNotEndInTimeGetsItsRecord) {
  ServerOptions options;
  options.drain_time_ms = 50;
  start({scripted("*", std::string(3000, 'z'), 5)}, options);
  Client running(server_->port());
  running.send(post("/v1/completions", R"({"prompt":"x","stream":true,"max_tokens":3000})"));
  running.read_until("data: ");
  server_->drain();
  EXPECT_THAT(running.read_until(kChunkEnd), HasSubstr("draining"));
  thread_.join();
}

TEST_F(ServerTest, TheModelIsChosenByPathQueryHeaderOrBody) {
  start({scripted("*", "ok")});
  const std::string body = R"({"inputs":"x"})";
  const std::string close = "Connection: close\r\n";
  EXPECT_THAT(exchange(post("/predictions/m", body, close)), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(exchange(post("/predictions/no", body, close)), StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(exchange(post("/invocations?model_name=no", body, close)),
              StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(exchange(post("/invocations", body, close + "model_name: no\r\n")),
              StartsWith("HTTP/1.1 404 "));
  EXPECT_THAT(exchange(post("/v1/completions", R"({"prompt":"x","model":"no"})", close)),
              StartsWith("HTTP/1.1 404 "));
}

TEST_F(ServerTest, AnErrorsBodyIsValidJsonWhateverTheClientNamed) {
  start({});
  const std::string close = "Connection: close\r\n";
  const std::string cut = std::string(63, 'x') + "é";
  for (const std::string& request :
       {get("/v1/models/%ff"), get("/v1/models/" + std::string(63, 'x') + "%c3%a9"),
        post("/invocations", R"({"inputs":"x"})", close + "model_name: \xff\r\n"),
        post("/invocations?model_version=%ff", R"({"inputs":"x"})", close),
        post("/v1/completions", R"({"prompt":"x","model":")" + cut + R"("})", close)}) {
    const std::string answer = exchange(request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 404 "));
    EXPECT_TRUE(parse_json(answer.substr(answer.find("\r\n\r\n") + 4))) << answer;
  }
}

TEST_F(ServerTest, ME_4_AllFamiliesAreThereBeforeAModelIs) {
  registry_.add("m", {"m"});
  listen({});
  const std::string page = exchange(get("/metrics"));
  for (const char* line :
       {"# TYPE vllm:num_requests_running gauge\n", "# TYPE vllm:request_success_total counter\n",
        "# TYPE vllm:time_to_first_token_seconds histogram\n",
        "# TYPE vllm:request_prompt_tokens histogram\n", "# TYPE tidemill:step_seconds histogram\n",
        "# TYPE tidemill:limited_steps_total counter\n",
        "tidemill:model_state{model=\"m\",state=\"loading\"} 1\n",
        "tidemill:model_state{model=\"m\",state=\"ready\"} 0\n",
        "tidemill:model_load_seconds{model=\"m\",phase=\"all\"} 0\n",
        "tidemill:memory_bytes{kind=\"weights\"} 0\n", "tidemill:memory_bytes{kind=\"other\"} ",
        "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 0\n",
        "http_request_duration_seconds_count{handler=\"/ping\",method=\"GET\"} 0\n"}) {
    EXPECT_THAT(page, HasSubstr(line));
  }
  load({});
  const std::string after = exchange(get("/metrics"));
  EXPECT_THAT(after, HasSubstr("tidemill:model_state{model=\"m\",state=\"ready\"} 1\n"));
  EXPECT_THAT(after, HasSubstr("vllm:num_requests_running{model_name=\"m\",engine=\"0\"} 0\n"));
}

TEST_F(ServerTest, RefusalsAreCountedByReason) {
  start({});
  exchange(post("/v1/completions", R"({"prompt":)"));
  exchange(post("/v1/completions", "{}", "Content-Encoding: gzip\r\n"));
  const std::string page = exchange(get("/metrics"));
  EXPECT_THAT(page, HasSubstr("tidemill:requests_rejected_total{reason=\"invalid_json\"} 1\n"));
  EXPECT_THAT(page,
              HasSubstr("tidemill:requests_rejected_total{reason=\"unsupported_media_type\"} 1\n"));
  EXPECT_THAT(page, HasSubstr("tidemill:requests_rejected_total{reason=\"draining\"} 0\n"));
}

}  // namespace
}  // namespace tidemill
