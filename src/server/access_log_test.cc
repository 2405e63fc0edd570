// One line per request: what stands in it, and what never does.
#include <gmock/gmock.h>

#include "base/log.h"
#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr const char* kTrace = "4bf92f3577b34da6a3ce929d0e0e4736";

class AccessLogTest : public ServerTest {
 protected:
  AccessLogTest() {
    testing::internal::CaptureStderr();
    set_log(LogLevel::kInfo, LogFormat::kJson);
  }
  ~AccessLogTest() override { set_log(LogLevel::kInfo, LogFormat::kText); }

  // The lines of requests so far, by their ids. Ends the server: every line is written.
  std::vector<JsonValue> lines() {
    TearDown();
    server_.reset();  // and with it the pool, which writes a line behind the answer
    std::istringstream all(testing::internal::GetCapturedStderr());
    std::vector<JsonValue> found;
    for (std::string line; std::getline(all, line);) {
      text_ += line + "\n";
      auto json = parse_json(line);
      EXPECT_TRUE(json) << line;
      if (json && json->find("message")->string() == "request") found.push_back(std::move(*json));
    }
    return found;
  }

  static std::string text_of(const JsonValue& line, const char* name) {
    const JsonValue* value = line.find(name);
    return value == nullptr ? "(none)" : value->is_string() ? value->string() : to_json(*value);
  }

  std::string text_;
};

TEST_F(AccessLogTest, AGenerationRequestsLineSaysWhatItTook) {
  start({scripted("*", "abc")});
  const std::string fields = format(
      "x-request-id: mine\r\ntraceparent: 00-{}-00f067aa0ba902b7-01\r\n"
      "Connection: close\r\n",
      kTrace);
  exchange(post("/v1/completions", R"({"prompt":"wxyz","n":2,"stream":true})", fields));
  exchange(post("/invocations", R"({"inputs":"x","parameters":{"max_new_tokens":2}})", fields));
  auto all = lines();
  ASSERT_EQ(all.size(), 2u);
  if (text_of(all[0], "route") == "/invocations") std::swap(all[0], all[1]);
  const std::pair<const char*, const char*> expected[] = {
      {"level", "info"},      {"id", "mine"},         {"trace", kTrace},
      {"key", "(none)"},      {"status", "200"},      {"route", "/v1/completions"},
      {"outcome", "stop"},    {"model", "m"},         {"prompt_tokens", "4"},
      {"cached_tokens", "0"}, {"output_tokens", "8"}, {"choices", "2"},
  };
  for (const auto& [name, value] : expected) EXPECT_EQ(text_of(all[0], name), value) << name;
  for (const char* name : {"time", "queue_ms", "first_token_ms", "total_ms"}) {
    EXPECT_NE(text_of(all[0], name), "(none)") << name;
  }
  EXPECT_EQ(text_of(all[1], "outcome"), "length");
  EXPECT_EQ(text_of(all[1], "output_tokens"), "2");
}

TEST_F(AccessLogTest, EveryRequestHasOneLineWithItsStatus) {
  ServerOptions options;
  options.gate.api_key = "hunter2";
  options.max_request_size = 1000;
  start({scripted("*", "ok")}, options);
  const std::string key = "api-key: hunter2\r\n", close = "Connection: close\r\n";
  exchange(get("/ping"));
  exchange(get("/v1/models"));
  exchange(get("/v1/models", key));
  exchange(get("/nobody/\x7f?a=prompt", key));
  exchange(post("/v1/completions", "{", key + close));
  exchange(post("/v1/completions", std::string(1001, 'x'), key));
  exchange(post("/v1/completions", R"({"prompt":"x"})", key + close));
  exchange("POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n" + key +
           "\r\nzz\r\n");
  exchange("GET / HTTP/3.0\r\nHost: h\r\n\r\n");
  std::vector<std::string> found;  // in any order: the pool writes a line behind the answer
  for (const JsonValue& line : lines()) {
    found.push_back(text_of(line, "route") + " " + text_of(line, "status") + " " +
                    text_of(line, "outcome") + " " + text_of(line, "key"));
  }
  EXPECT_THAT(
      found,
      testing::UnorderedElementsAre(
          "/ping 200 done (none)", "/v1/models 401 invalid_api_key (none)",
          "/v1/models 200 done api_key", "none 400 malformed_request (none)",
          "/v1/completions 400 invalid_json api_key", "/v1/completions 413 body_too_large api_key",
          "/v1/completions 200 stop api_key", "/v1/completions 400 malformed_request api_key",
          "none 505 version_not_supported (none)"))
      << text_;
}

TEST_F(AccessLogTest, Z_5_NoPromptNoAnswerNoKeyAndNoHeaderIsLogged) {
  ServerOptions options;
  options.gate.api_key = "hunter2";
  start({scripted("*", "the-completion")}, options);
  const std::string secret =
      "Connection: close\r\nX-Secret: the-header\r\ntraceparent: the-header\r\n"
      "User-Agent: the-header\r\n";
  for (const char* key : {"api-key: hunter2\r\n", "Authorization: Bearer wrong-key\r\n"}) {
    for (const char* body :
         {R"({"prompt":"the-prompt"})", R"({"prompt":"the-prompt","stream":true})",
          R"({"prompt":"the-prompt",)", R"({"prompt":"the-prompt","n":"the-prompt"})",
          R"({"prompt":"the-prompt","model":"the-prompt"})"}) {
      exchange(post("/v1/completions", body, secret + key));
    }
    exchange(get("/v1/models/the-prompt?a=the-prompt", secret + key));
  }
  EXPECT_EQ(lines().size(), 12u);
  for (const char* word : {"the-prompt", "the-completion", "the-header", "hunter2", "wrong-key"}) {
    EXPECT_THAT(text_, Not(HasSubstr(word)));
  }
}

TEST_F(AccessLogTest, AClientThatLeavesIsLoggedAsThat) {
  start({scripted("*", std::string(3000, 'z'), 5)});
  {
    Client client(server_->port());
    client.send(post("/v1/completions", R"({"prompt":"x","max_tokens":3000})"));
    while (executor_->stats().running == 0) std::this_thread::yield();
  }
  EXPECT_TRUE(becomes_idle());
  const auto all = lines();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(text_of(all[0], "outcome"), "client_left");
  EXPECT_EQ(text_of(all[0], "status"), "(none)");
}

TEST_F(AccessLogTest, H_12_AnUploadThatBreaksOffIsLoggedAsThat) {
  start({scripted("*", "ok")});
  {
    Client client(server_->port());
    client.send("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n{\"pro");
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (metric("tidemill:requests_rejected_total") < 1) {
    ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    std::this_thread::yield();
  }
  const auto all = lines();
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(text_of(all[0], "outcome"), "client_left");
  EXPECT_EQ(text_of(all[0], "route"), "/v1/completions");
  EXPECT_EQ(text_of(all[0], "status"), "(none)");
}

}  // namespace
}  // namespace tidemill
