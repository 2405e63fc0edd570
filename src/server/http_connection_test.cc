// What a connection answers when HTTP itself goes wrong, and what it counts.
#include <gmock/gmock.h>

#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

constexpr const char* kChunkedRequest =
    "Host: h\r\nx-request-id: mine\r\nTransfer-Encoding: chunked\r\n\r\n";

class HttpConnectionTest : public ServerTest {
 protected:
  static JsonValue body_of(const std::string& answer) {
    auto json = parse_json(answer.substr(answer.find("\r\n\r\n") + 4));
    EXPECT_TRUE(json) << answer;
    return json ? std::move(*json) : JsonValue(JsonObject{});
  }

  // {"error":{...}}'s member.
  static std::string of_error(const std::string& answer, const char* member) {
    return body_of(answer).find("error")->find(member)->string();
  }

  // A client may have its answer before it is counted.
  void wait_for_metric(const std::string& name, double least) const {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (metric(name) < least && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::yield();
    }
    EXPECT_GE(metric(name), least);
  }
};

TEST_F(HttpConnectionTest, ABodysFramingErrorIsToldInTheRoutesForm) {
  start({});
  const std::string lmi =
      exchange("POST /invocations HTTP/1.1\r\n" + std::string(kChunkedRequest) + "zz\r\n");
  EXPECT_THAT(lmi, StartsWith("HTTP/1.1 400 Bad Request\r\nx-request-id: mine\r\n"));
  EXPECT_THAT(lmi, HasSubstr("Pragma: no-cache\r\n"));
  EXPECT_EQ(body_of(lmi).find("code")->integer(), 400);
  EXPECT_EQ(body_of(lmi).find("type")->string(), "BadRequestException");
  EXPECT_EQ(body_of(lmi).find("reason")->string(), "malformed_request");
  EXPECT_EQ(body_of(lmi).find("request_id")->string(), "mine");
  const std::string openai =
      exchange("POST /v1/completions HTTP/1.1\r\n" + std::string(kChunkedRequest) + "zz\r\n");
  EXPECT_THAT(openai, StartsWith("HTTP/1.1 400 Bad Request\r\nx-request-id: mine\r\n"));
  EXPECT_EQ(of_error(openai, "code"), "malformed_request");
  EXPECT_EQ(metric("http_requests_total"), 2);
  EXPECT_THAT(metrics_.text(),
              HasSubstr("{handler=\"/invocations\",method=\"POST\",status=\"4xx\"} 1"));
}

TEST_F(HttpConnectionTest, H_6_ALateBodyIsToldInTheRoutesForm) {
  ServerOptions options;
  options.body_timeout_ms = 50;
  start({}, options);
  const std::string answer =
      exchange("POST /invocations HTTP/1.1\r\n" + std::string(kChunkedRequest) + "5\r\n{");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 408 Request Timeout\r\nx-request-id: mine\r\n"));
  EXPECT_EQ(body_of(answer).find("reason")->string(), "request_timeout");
  EXPECT_EQ(body_of(answer).find("code")->integer(), 408);
}

TEST_F(HttpConnectionTest, ABadHeadsCodeAndTypeAreThoseOfItsStatus) {
  start({});
  const auto get_with = [](const std::string& target, const std::string& rest) {
    return "GET " + target + " HTTP/1.1\r\nHost: h\r\n" + rest + "\r\n";
  };
  const std::tuple<std::string, int, const char*, const char*> cases[] = {
      {get_with("/", "X : y\r\n"), 400, "malformed_request", "invalid_request_error"},
      {get_with("/" + std::string(9000, 'x'), ""), 414, "target_too_long", "invalid_request_error"},
      {get_with("/", "X: " + std::string(17'000, 'x') + "\r\n"), 431, "header_fields_too_large",
       "invalid_request_error"},
      {get_with("/", "Transfer-Encoding: gzip\r\n"), 501, "not_implemented", "server_error"},
      {"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "version_not_supported", "server_error"},
  };
  for (const auto& [request, status, code, type] : cases) {
    const std::string answer = exchange(request);
    EXPECT_THAT(answer, StartsWith(format("HTTP/1.1 {} ", status)));
    EXPECT_EQ(of_error(answer, "code"), code);
    EXPECT_EQ(of_error(answer, "type"), type);
  }
}

TEST_F(HttpConnectionTest, AStreamIsCountedWhenItHasEnded) {
  start({scripted("*", "abcdefgh", 20)});
  Client client(server_->port());
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true})"));
  client.read_until("data: ");
  EXPECT_EQ(metric("http_requests_total"), 0);
  client.read_until("\r\n0\r\n\r\n");
  wait_for_metric("http_request_duration_seconds_sum", 8 * 0.020);
  wait_for_metric("http_requests_total", 1);
}

TEST_F(HttpConnectionTest, TheTimeOfARequestBeginsWithItsFirstByte) {
  start({});
  const std::string request = get("/health");
  Client client(server_->port());
  client.send(request.substr(0, 10));
  const auto later = std::chrono::steady_clock::now() + std::chrono::milliseconds(50);
  while (std::chrono::steady_clock::now() < later) std::this_thread::yield();
  client.send(request.substr(10));
  client.read_all();
  wait_for_metric("http_request_duration_seconds_sum", 0.040);
}

TEST_F(HttpConnectionTest, AStreamThatIsBrokenOffIsCountedToo) {
  start({scripted("*", std::string(3000, 'z'), 5)});
  {
    Client client(server_->port());
    client.send(post("/v1/completions", R"({"prompt":"x","stream":true,"max_tokens":3000})"));
    client.read_until("data: ");
  }
  wait_for_metric("http_requests_total", 1);
}

TEST_F(HttpConnectionTest, ME_5_OnlyGenerationRequestsAreCountedAsRejected) {
  start({});
  EXPECT_THAT(exchange(get("/health", "Content-Encoding: gzip\r\n")), StartsWith("HTTP/1.1 415 "));
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 0);
  EXPECT_THAT(exchange(post("/invocations", "{}", "Content-Encoding: gzip\r\n")),
              StartsWith("HTTP/1.1 415 "));
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 1);
}

TEST_F(HttpConnectionTest, H_9_TheLastConnectionsServeHealthAndAreSoonFreeAgain) {
  ServerOptions options;
  options.max_connections = 10;
  start({scripted("*", "ok")}, options);
  Client first(server_->port()), second(server_->port());
  first.send(get("/health/live", "Connection: keep-alive\r\n"));
  first.read_until("ok");
  // All that are left, by clients that say nothing.
  std::vector<std::unique_ptr<Client>> silent;
  for (int i = 0; i < 8; ++i) silent.push_back(std::make_unique<Client>(server_->port()));
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 200 "));
  // One of the last is for health alone, and for one answer.
  const std::string one_more = "GET /ping HTTP/1.1\r\nHost: h\r\n\r\n";
  EXPECT_THAT(exchange(one_more), HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(exchange(post("/v1/completions", R"({"prompt":"x"})")), StartsWith("HTTP/1.1 429 "));
  // Whoever came earlier is served as ever.
  second.send(post("/v1/completions", R"({"prompt":"x"})"));
  EXPECT_THAT(second.read_until("}}"), StartsWith("HTTP/1.1 200 "));
}

// I15: a request that came has an ending, and one counter that knows it.
TEST_F(HttpConnectionTest, I15_AClientThatLeavesItsUploadIsCountedOnce) {
  start({scripted("*", "ok")});
  const std::string begin = "POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n";
  { Client(server_->port()).send(begin + "\r\n{\"pro"); }
  { Client(server_->port()).send("POST /tokenize HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"); }
  wait_for_metric("tidemill:requests_rejected_total", 1);
  {
    Client client(server_->port());
    client.send(begin + "Expect: 100-continue\r\n\r\n");
    client.read_until("100 Continue\r\n\r\n");
  }
  wait_for_metric("tidemill:requests_rejected_total", 2);
  EXPECT_THAT(metrics_.text(),
              HasSubstr("tidemill:requests_rejected_total{reason=\"client_left\"} 2\n"));
}

// RFC 9110 10.1.1: an older client does not know what the interim answer is.
TEST_F(HttpConnectionTest, H_11_AnOlderClientIsNotToldToContinue) {
  start({scripted("*", "ok")});
  const std::string answer = exchange(
      "POST /v1/completions HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 14\r\n\r\n"
      R"({"prompt":"x"})");
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 "));
}

TEST_F(HttpConnectionTest, Q_4_AClientThatSendsMuchAheadAndLeavesIsNoticed) {
  start({scripted("*", std::string(3000, 'z'), 5)});
  std::string many;
  for (int i = 0; i < 9; ++i) many += get("/ping");
  for (const std::string& ahead : {std::string(100'000, 'x'), many}) {
    {
      Client client(server_->port());
      client.send(post("/v1/completions", R"({"prompt":"x","max_tokens":3000})") + ahead);
      while (executor_->stats().running == 0) std::this_thread::yield();
    }
    EXPECT_TRUE(becomes_idle()) << ahead.size();
  }
}

}  // namespace
}  // namespace tidemill
