// Keys, origins and OPTIONS, as clients meet them.
#include "server/front_gate.h"

#include <gmock/gmock.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "server/test_server.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::EndsWith;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class FrontGateTest : public ServerTest {
 protected:
  FrontGateTest() { fs::create_directories(folder_); }
  ~FrontGateTest() override { fs::remove_all(folder_); }

  std::string key_file(const std::string& text) const {
    const fs::path file = folder_ / "keys";
    std::ofstream(file) << text;
    return file.string();
  }

  int status(const std::string& request) {
    const std::string answer = exchange(request);
    return answer.size() < 12 ? 0 : std::stoi(answer.substr(9, 3));
  }

  static std::string ask(std::string_view method, const std::string& path,
                         const std::string& fields) {
    const std::string body = method == "POST" ? "{}" : "";
    return format(
        "{} {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{}Content-Length: {}\r\n\r\n{}", method,
        path, fields, body.size(), body);
  }

  static ServerOptions with_key() {
    ServerOptions options;
    options.gate.api_key = "s3cret";
    return options;
  }

  const fs::path folder_ =
      fs::path(testing::TempDir()) / ("tidemill-front-gate-test-" + std::to_string(::getpid()));
};

std::string replaced(std::string text, std::string_view what, std::string_view by) {
  const size_t at = text.find(what);
  return at == std::string::npos ? text : text.replace(at, what.size(), by);
}

// The same path as others might spell it.
std::vector<std::string> spellings(const std::string& path) {
  std::string encoded = path, upper = path;
  if (path.size() > 1) encoded = path.substr(0, 1) + format("%{:02x}", path[1]) + path.substr(2);
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return {path, encoded, "/" + path, upper, path + "/", path + "?a=b"};
}

TEST_F(FrontGateTest, A_1_EveryRouteButHealthNeedsAKeyHoweverItIsSpelled) {
  start({scripted("*", "ok")}, with_key());
  const std::vector<std::string> open = {"/ping",         "/health",    "/health/live",
                                         "/health/ready", "/v1/health", "/"};
  for (const RoutePattern& route : route_patterns()) {
    const std::string path =
        replaced(replaced(std::string(route.pattern), "{model}", "m"), "{id}", "m");
    for (const std::string& spelled : spellings(path)) {
      const auto found = find_route(route.method, spelled);
      const auto* known = std::get_if<Route>(&found);
      const bool is_open = known != nullptr && route.method == "GET" &&
                           std::find(open.begin(), open.end(), known->pattern) != open.end();
      for (const char* key : {"", "Authorization: Bearer wrong\r\n"}) {
        const std::string answer = exchange(ask(route.method, spelled, key));
        EXPECT_EQ(answer.starts_with("HTTP/1.1 401 "), !is_open) << spelled << " " << key;
        EXPECT_EQ(answer.find("\r\nWWW-Authenticate: Bearer\r\n") != std::string::npos, !is_open);
      }
      const int right = status(ask(route.method, spelled, "Authorization: Bearer s3cret\r\n"));
      EXPECT_EQ(right == 404 && known == nullptr, known == nullptr) << spelled;
      EXPECT_NE(right, 401) << spelled;
    }
  }
  EXPECT_EQ(status(get("/nobody")), 401);
}

TEST_F(FrontGateTest, CO_9_AKeyMayComeInThreeForms) {
  start({}, with_key());
  for (const char* good : {"Authorization: Bearer s3cret\r\n", "authorization: bEARER  s3cret\r\n",
                           "x-api-key: s3cret\r\n", "api-key: s3cret\r\n"}) {
    EXPECT_EQ(status(get("/v1/models", good)), 200) << good;
  }
  for (const char* bad : {"Authorization: s3cret\r\n", "Authorization: Basic s3cret\r\n",
                          "x-api-key: s3cre\r\n", "api-key: s3crets\r\n", "api-key:\r\n",
                          "Authorization: Bearer\r\n", "x-api-key: no\r\napi-key: s3cret\r\n"}) {
    EXPECT_EQ(status(get("/v1/models", bad)), 401) << bad;
  }
}

TEST_F(FrontGateTest, CO_9_ARefusalHasItsRoutesFormAndIsCounted) {
  start({}, with_key());
  const std::string openai = exchange(post("/v1/completions", "{}"));
  EXPECT_THAT(openai, StartsWith("HTTP/1.1 401 Unauthorized\r\n"));
  EXPECT_THAT(openai, HasSubstr(R"("type":"authentication_error","param":null,"code":"inv)"));
  EXPECT_THAT(openai, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(exchange(post("/invocations", "{}")), HasSubstr("\"code\": 401,\n"));
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 2);
}

TEST_F(FrontGateTest, CO_9_MetricsAreOpenWhenThatIsAsked) {
  ServerOptions options = with_key();
  options.gate.metrics_open = true;
  start({}, options);
  EXPECT_EQ(status(get("/metrics")), 200);
  EXPECT_EQ(status(get("/server/metrics")), 401);
  EXPECT_EQ(status(get("/v1/models")), 401);
}

TEST_F(FrontGateTest, CO_9_AFileOfKeysIsReadAgainWhenItChanges) {
  ServerOptions options;
  options.gate.api_key_file = key_file("# ours\n\nalice one\n  bob\ttwo \n");
  options.gate.api_key = "three";
  start({}, options);
  const auto with = [&](const char* key) {
    return status(get("/v1/models", format("api-key: {}\r\n", key)));
  };
  EXPECT_EQ(with("one"), 200);
  EXPECT_EQ(with("two"), 200);
  EXPECT_EQ(with("three"), 200);
  EXPECT_EQ(with("four"), 401);
  EXPECT_EQ(with("alice"), 401);
  key_file("carol four\n");
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (with("four") != 200 && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(with("four"), 200);
  EXPECT_EQ(with("one"), 401);
  EXPECT_EQ(with("three"), 200);
}

TEST_F(FrontGateTest, CO_9_AFileThatBecomesMalformedChangesNothing) {
  ApiKeys keys("", key_file("alice one\n"));
  ApiKeys::Time now = std::chrono::steady_clock::now();
  EXPECT_EQ(keys.name_of("one", now), "alice");
  key_file("alice two\nnonsense\n");
  EXPECT_EQ(keys.name_of("one", now += std::chrono::seconds(2)), "alice");
  fs::remove(folder_ / "keys");
  EXPECT_EQ(keys.name_of("one", now += std::chrono::seconds(2)), "alice");
  key_file("alice two\n");
  EXPECT_EQ(keys.name_of("two", now += std::chrono::milliseconds(500)), std::nullopt);
  EXPECT_EQ(keys.name_of("two", now += std::chrono::seconds(1)), "alice");
  EXPECT_EQ(keys.name_of("one", now), std::nullopt);
}

TEST_F(FrontGateTest, Z_5_AKeyThatCannotBeReadIsRefusedWithoutBeingShown) {
  const auto refusal = [](const std::string& key, const std::string& file) -> std::string {
    try {
      ApiKeys keys(key, file);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  for (const char* text : {"alice one\nhunter2\n", "alice one\nbad/name hunter2\n",
                           "alice one\nbob hunter2 more\n", "alice one\nbob hunter2\x01\n"}) {
    EXPECT_THAT(refusal("", key_file(text)),
                testing::AllOf(HasSubstr("keys:2: must be a name"), Not(HasSubstr("hunter2"))));
  }
  EXPECT_THAT(refusal("", key_file("# nobody\n")), HasSubstr("holds no key"));
  EXPECT_THAT(refusal("", (folder_ / "none").string()), HasSubstr("none"));
  EXPECT_THAT(refusal("hunter 2", ""), Not(HasSubstr("hunter")));
}

TEST_F(FrontGateTest, CO_11_WithoutAnOriginNoAnswerSpeaksOfThem) {
  start({});
  EXPECT_THAT(exchange(get("/ping")), Not(HasSubstr("Access-Control")));
  const std::string root = exchange(ask("OPTIONS", "/", ""));
  EXPECT_THAT(root, StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(root, EndsWith("\r\n\r\n{}\n"));
  EXPECT_THAT(root, HasSubstr("Pragma: no-cache\r\n"));
  EXPECT_EQ(status(ask("OPTIONS", "/predictions/m", "")), 200);
  EXPECT_EQ(status(ask("OPTIONS", "/predictions/nobody", "")), 405);
  EXPECT_EQ(status(ask("OPTIONS", "/v1/completions", "")), 405);
  EXPECT_EQ(status(ask("OPTIONS", "/nobody", "")), 404);
}

TEST_F(FrontGateTest, CO_11_APreflightNeedsNoKeyAndEveryAnswerNamesTheOrigin) {
  ServerOptions options = with_key();
  options.gate.cors_allowed_origin = "https://chat.example";
  start({scripted("*", "ok")}, options);
  Client client(server_->port());
  client.send(
      "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: h\r\nOrigin: https://chat.example\r\n"
      "Access-Control-Request-Method: POST\r\n\r\n");
  const std::string preflight = client.read_until("\r\n\r\n");
  EXPECT_THAT(preflight, StartsWith("HTTP/1.1 204 No Content\r\n"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Origin: https://chat.example\r\n"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Methods: GET, HEAD, POST, OPTIONS\r\n"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Allow-Headers: Authorization, Content-Type,"));
  EXPECT_THAT(preflight, HasSubstr("Access-Control-Max-Age: 600\r\n"));
  EXPECT_THAT(preflight, Not(HasSubstr("Content-Length")));
  // The connection is good for the question itself, answered whole or as a stream, or refused.
  const char* key = "api-key: s3cret\r\n";
  client.send(post("/v1/completions", R"({"prompt":"x","stream":true})", key));
  EXPECT_THAT(client.read_until("\r\n0\r\n\r\n"), HasSubstr("Access-Control-Allow-Origin: https"));
  client.send(post("/v1/completions", R"({"prompt":"x"})"));
  const std::string refused = client.read_all();
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 401 "));
  EXPECT_THAT(refused, HasSubstr("Access-Control-Allow-Origin: https://chat.example\r\n"));
  EXPECT_THAT(exchange("nonsense\r\n\r\n"), HasSubstr("Access-Control-Allow-Origin: https"));
}

// Their bodies mean nothing and are not read: what follows could not be told from the next request.
TEST_F(FrontGateTest, CO_11_WhoAsksWithABodyIsToldThatTheConnectionCloses) {
  for (const char* origin : {"", "*"}) {
    ServerOptions options;
    options.gate.cors_allowed_origin = origin;
    listen(options);
    for (const char* body : {"Content-Length: 4\r\n\r\nbody",
                             "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n"}) {
      const std::string answer = exchange("OPTIONS / HTTP/1.1\r\nHost: h\r\n" + std::string(body));
      EXPECT_THAT(answer, StartsWith("HTTP/1.1 20"));
      EXPECT_THAT(answer, HasSubstr("\r\nConnection: close\r\n"));
    }
    Client client(server_->port());
    client.send("OPTIONS / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    EXPECT_THAT(client.read_until("\r\n\r\n"), HasSubstr("\r\nConnection: keep-alive\r\n"));
    server_->drain();
    thread_.join();
    server_.reset();
  }
}

TEST_F(FrontGateTest, CO_11_WhatNoHeaderCanCarryIsRefused) {
  GateOptions options;
  options.cors_allowed_origin = "https://a\r\nX: y";
  EXPECT_THROW(FrontGate(options, registry_), std::runtime_error);
  options = {};
  options.cors_allowed_methods = "GET";
  EXPECT_THROW(FrontGate(options, registry_), std::runtime_error);
}

}  // namespace
}  // namespace tidemill
