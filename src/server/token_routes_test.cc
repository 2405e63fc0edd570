// POST /tokenize and /detokenize through sockets (apis.md 13).
#include <gmock/gmock.h>

#include <deque>

#include "server/test_server.h"
#include "server/text_pool.h"

namespace tidemill {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

TEST_F(ServerTest, TO_2_TokensAreReadAndWrittenWithoutAPlaceInTheQueue) {
  start({});
  Client client(server_->port());
  client.send(post("/tokenize", R"({"prompt":"hi","colour":1})"));
  EXPECT_THAT(client.read_until("}"), HasSubstr("x-ignored-parameters: colour\r\n"));
  client.send(post("/detokenize", R"({"tokens":[104,105]})"));
  EXPECT_THAT(client.read_until("}"), EndsWith(R"({"prompt":"hi"})"));
  EXPECT_THAT(exchange(post("/tokenize", R"({"prompt":5})")), HasSubstr("invalid_parameter"));
  EXPECT_THAT(exchange(post("/tokenize", R"({"prompt":"x","model":"n"})")),
              HasSubstr("model_not_found"));
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 0.0);  // of requests that generate
  EXPECT_EQ(metric("tidemill:unknown_parameters_total"), 1.0);
}

// All requests lack their last byte until every one of them is there: they arrive as one burst, and
// each keeps its place for as long as a long text takes.
TEST_F(ServerTest, TO_3_OneMoreThanThePlacesIsToldToComeBack) {
  start({});
  constexpr int kNumClients = 2 * static_cast<int>(TextPool::kMaxSideRequests);
  const std::string request =
      post("/tokenize", R"({"prompt":")" + std::string(30'000, 'x') + R"("})");
  std::deque<Client> clients;
  for (int i = 0; i < kNumClients; ++i) {
    clients.emplace_back(server_->port()).send(request.substr(0, request.size() - 1));
  }
  for (Client& client : clients) client.send(request.substr(request.size() - 1));
  int refused = 0;
  for (Client& client : clients) {
    const std::string head = client.read_until("\r\n\r\n");
    if (head.starts_with("HTTP/1.1 200 ")) continue;
    ++refused;
    EXPECT_THAT(head, StartsWith("HTTP/1.1 429 "));
    EXPECT_THAT(head, HasSubstr("Retry-After: "));
    const std::string body = client.read_until("}}");
    EXPECT_THAT(body, HasSubstr("64 requests for tokens are being answered"));
    EXPECT_THAT(body, HasSubstr("rate_limit_error"));
  }
  EXPECT_GE(refused, 1);
  EXPECT_LE(refused, kNumClients - TextPool::kMaxSideRequests);
  EXPECT_EQ(metric("tidemill:requests_rejected_total"), 0.0);  // of requests that generate
  // The places are free again.
  EXPECT_THAT(exchange(post("/tokenize", R"({"prompt":"hi"})", "Connection: close\r\n")),
              StartsWith("HTTP/1.1 200 "));
}

}  // namespace
}  // namespace tidemill
