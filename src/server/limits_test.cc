// Every limit of robustness.md 1 that a client meets at the door: limit - 1, limit, limit + 1.
#include <gmock/gmock.h>
#include <sys/socket.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/write.hpp>

#include "server/client_watch.h"
#include "server/test_server.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr int kAround[] = {-1, 0, 1};

class LimitsTest : public ServerTest {
 protected:
  int status(const std::string& request) {
    const std::string answer = exchange(request);
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 "));
    return answer.size() < 12 ? 0 : std::stoi(answer.substr(9, 3));
  }

  static std::string completion(const std::string& body, const std::string& fields = "") {
    return post("/v1/completions", body, "Connection: close\r\n" + fields);
  }

  static std::string filled(const std::string& begin, size_t size, const std::string& end) {
    return begin + std::string(size - begin.size() - end.size(), 'x') + end;
  }
};

TEST_F(LimitsTest, H_1_RequestLine) {
  ServerOptions options;
  options.head.request_line = 200;
  start({}, options);
  for (const int more : kAround) {
    const auto line = filled("GET /health?", static_cast<size_t>(200 + more), " HTTP/1.1");
    EXPECT_EQ(status(line + "\r\nHost: h\r\nConnection: close\r\n\r\n"), more > 0 ? 414 : 200);
  }
  // It is told when it is too long, not when it ends.
  EXPECT_EQ(status("GET /" + std::string(300, 'x')), 414);
}

TEST_F(LimitsTest, H_1_HeaderBlock) {
  ServerOptions options;
  options.max_head_bytes = 1000;
  start({}, options);
  for (const int more : kAround) {
    const auto head = filled("GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX: ",
                             static_cast<size_t>(1000 + more), "\r\n\r\n");
    EXPECT_EQ(status(head), more > 0 ? 431 : 200) << more;
  }
  EXPECT_EQ(status("GET / HTTP/1.1\r\nX: " + std::string(2000, 'x')), 431);
}

TEST_F(LimitsTest, H_1_HeaderCountAndField) {
  ServerOptions options;
  options.head.num_fields = 10;
  options.head.field = 300;
  start({}, options);
  for (const int more : kAround) {
    std::string fields;
    for (int i = 0; i < 8 + more; ++i) fields += "X: y\r\n";  // beside Host and Connection
    EXPECT_EQ(status(get("/health", fields)), more > 0 ? 431 : 200) << more;
    const auto field = filled("X: ", static_cast<size_t>(300 + more), "\r\n");
    EXPECT_EQ(status(get("/health", field.substr(0, field.size() - 2) + "xx\r\n")),
              more > 0 ? 431 : 200)
        << more;
  }
}

TEST_F(LimitsTest, H_2_Body) {
  ServerOptions options;
  options.max_request_size = 500;
  start({scripted("*", "ok")}, options);
  for (const int more : kAround) {
    const auto body = filled(R"({"prompt":")", static_cast<size_t>(500 + more), R"("})");
    EXPECT_EQ(status(completion(body)), more > 0 ? 413 : 200) << more;
  }
}

TEST_F(LimitsTest, H_4_ChunksOfABody) {
  ServerOptions options;
  options.body = {.num_chunks = 20, .chunk_extension = 10, .trailers = 50};
  start({scripted("*", "ok")}, options);
  const std::string head =
      "POST /v1/completions HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"
      "Connection: close\r\n\r\n";
  const std::string chunk = "e\r\n{\"prompt\":\"x\"}\r\n";
  for (const int more : kAround) {
    const int expected = more > 0 ? 400 : 200;
    std::string chunks = chunk;
    for (int i = 0; i < 19 + more; ++i) chunks += "1\r\n \r\n";
    EXPECT_EQ(status(head + chunks + "0\r\n\r\n"), expected) << more;
    const std::string extension(static_cast<size_t>(9 + more), 'e');
    EXPECT_EQ(status(head + chunk + "1;" + extension + "\r\n \r\n0\r\n\r\n"), expected) << more;
    const auto trailer = filled("X: ", static_cast<size_t>(50 + more), "\r\n");
    EXPECT_EQ(status(head + chunk + "0\r\n" + trailer + "\r\n"), expected) << more;
  }
}

TEST_F(LimitsTest, J_2_DepthAndValuesOfABody) {
  ServerOptions options;
  options.max_json_depth = 8;
  options.max_json_values = 100;
  start({scripted("*", "ok")}, options);
  for (const int more : kAround) {
    const int expected = more > 0 ? 400 : 200;
    const auto depth = static_cast<size_t>(7 + more);  // inside the body's object
    const std::string nested = std::string(depth, '[') + std::string(depth, ']');
    EXPECT_EQ(status(completion(R"({"prompt":"x","unknown":)" + nested + "}")), expected) << more;
    std::string values = "0";
    for (int i = 0; i < 96 + more; ++i) values += ",0";  // object, prompt, list, 97 numbers
    EXPECT_EQ(status(completion(R"({"prompt":"x","unknown":[)" + values + "]}")), expected) << more;
  }
}

TEST_F(LimitsTest, P_2_P_3_ListsOfARequest) {
  ExecutorOptions executor;
  executor.request.max_prompts = 3;
  executor.request.max_choices = 4;
  executor.request.max_stop_strings = 5;
  executor.request.max_stop_string_bytes = 6;
  executor.request.max_stop_token_ids = 7;
  executor.request.max_logit_bias = 8;
  registry_.add("m", {"m"});
  load({scripted("*", "ok")}, executor);
  listen({});
  const auto list = [](const std::string& item, int count) {
    std::string text;
    for (int i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + item;
    return "[" + text + "]";
  };
  for (const int more : kAround) {
    const int expected = more > 0 ? 400 : 200;
    EXPECT_EQ(status(completion(R"({"prompt":)" + list("\"x\"", 3 + more) + "}")), expected);
    EXPECT_EQ(status(completion(format(R"({{"prompt":"x","n":{}}})", 4 + more))), expected);
    EXPECT_EQ(status(completion(format(R"({{"prompt":"x","best_of":{}}})", 4 + more))), expected);
    const std::string stops = list("\"no\"", 5 + more);
    EXPECT_EQ(status(completion(R"({"prompt":"x","stop":)" + stops + "}")), expected);
    const std::string stop(static_cast<size_t>(6 + more), 's');
    EXPECT_EQ(status(completion(R"({"prompt":"x","stop":")" + stop + R"("})")), expected);
    const std::string ids = list("1", 7 + more);
    EXPECT_EQ(status(completion(R"({"prompt":"x","stop_token_ids":)" + ids + "}")), expected);
    std::string bias;
    for (int id = 0; id < 8 + more; ++id) bias += format("{}\"{}\":1", id == 0 ? "" : ",", id);
    EXPECT_EQ(status(completion(R"({"prompt":"x","logit_bias":{)" + bias + "}}")), expected);
  }
}

// The model's length is 4096 tokens, and the test's tokenizer makes a token of a byte.
TEST_F(LimitsTest, K_1_BytesOfAPrompt) {
  ExecutorOptions executor;
  executor.request.max_prompt_bytes_per_token = 1;
  registry_.add("m", {"m"});
  load({scripted("*", "ok")}, executor);
  listen({});
  for (const int more : kAround) {
    const std::string text(static_cast<size_t>(4096 + more), 'x');
    const std::string answer =
        exchange(completion(R"({"truncate_prompt_tokens":9,"prompt":")" + text + R"("})"));
    EXPECT_THAT(answer, StartsWith(more > 0 ? "HTTP/1.1 400 " : "HTTP/1.1 200 ")) << more;
    if (more > 0) {
      EXPECT_THAT(answer, HasSubstr("the prompt has 4097 bytes; a model of 4096 tokens reads 4096 "
                                    "at most."));
      EXPECT_THAT(answer, HasSubstr("max_prompt_bytes_per_token"));
    }
  }
}

TEST_F(LimitsTest, Q_1_WaitingSequences) {
  ExecutorOptions executor;
  executor.scheduler.max_sequences = 1;
  executor.job_queue_size = 2;
  registry_.add("m", {"m"});
  load({scripted("*", std::string(3000, 'z'), 5)}, executor);
  listen({});
  const std::string long_one = post("/v1/completions", R"({"prompt":"x","max_tokens":3000})");
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 3; ++i) {  // one runs, two wait
    clients.push_back(std::make_unique<Client>(server_->port()));
    clients.back()->send(long_one);
    while (executor_->stats().running + executor_->stats().waiting <= i) std::this_thread::yield();
    while (executor_->stats().running == 0) std::this_thread::yield();
  }
  EXPECT_EQ(executor_->stats().waiting, 2);
  const auto begun = std::chrono::steady_clock::now();
  const std::string refused = exchange(completion(R"({"prompt":"x"})"));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(500));
  EXPECT_THAT(refused, StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(refused, HasSubstr("Retry-After: "));
  EXPECT_THAT(refused, HasSubstr("Connection: close\r\n"));
}

TEST_F(LimitsTest, H_6_TimesOfAHeadABodyAndAnIdleConnection) {
  ServerOptions options;
  options.header_timeout_ms = 200;
  options.keep_alive_ms = 200;
  options.body_grace_ms = 100;
  options.body_min_rate = 100;
  start({scripted("*", "ok")}, options);
  const auto wait = [](int ms) { std::this_thread::sleep_for(std::chrono::milliseconds(ms)); };
  for (const bool in_time : {true, false}) {
    Client head(server_->port());
    head.send("GET /health HTTP/1.1\r\n");
    wait(in_time ? 50 : 300);
    head.send("Host: h\r\nConnection: close\r\n\r\n");
    EXPECT_THAT(head.read_all(), StartsWith(in_time ? "HTTP/1.1 200 " : "HTTP/1.1 408 "));
    // 40 bytes earn 400 ms behind the first 100: whoever goes on is heard, whoever stops is not.
    Client body(server_->port());
    body.send("POST /v1/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 54\r\n" +
              ("Connection: close\r\n\r\n" + std::string(40, ' ')));
    wait(in_time ? 250 : 800);
    body.send(R"({"prompt":"x"})");
    EXPECT_THAT(body.read_all(), StartsWith(in_time ? "HTTP/1.1 200 " : "HTTP/1.1 408 "));
    Client idle(server_->port());
    idle.send("GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
    idle.read_until("ok");
    wait(in_time ? 50 : 300);
    idle.send(get("/health"));
    const std::string rest = idle.read_all();
    EXPECT_EQ(rest.find("HTTP/1.1 200 ") != std::string::npos, in_time) << rest;
  }
}

TEST_F(LimitsTest, H_9_ConnectionsBeyondTheLastWaitForOneToClose) {
  ServerOptions options;
  options.max_connections = 10;
  options.reserved_connections = 2;
  options.header_timeout_ms = 60'000;
  start({scripted("*", "ok")}, options);
  const std::string generate = post("/v1/completions", R"({"prompt":"x"})");
  std::vector<std::unique_ptr<Client>> open;
  const auto use_one = [&] {
    open.push_back(std::make_unique<Client>(server_->port()));
    open.back()->send(generate);
    return open.back()->read_until("\r\n");
  };
  for (int i = 0; i < 7; ++i) EXPECT_THAT(use_one(), StartsWith("HTTP/1.1 200 ")) << i;
  EXPECT_THAT(use_one(), StartsWith("HTTP/1.1 200 "));  // the eighth is the last that is not kept
  EXPECT_THAT(use_one(), StartsWith("HTTP/1.1 429 "));
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 200 "));
}

TEST(ClientWatch, H_7_SoManyRequestsAreReadAhead) {
  using boost::asio::ip::tcp;
  boost::asio::io_context io;
  tcp::acceptor acceptor(io, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
  tcp::socket client(io), server(io);
  client.connect(acceptor.local_endpoint());
  acceptor.accept(server);
  server.non_blocking(true);
  const std::string request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
  std::string ahead;
  ClientWatch watch(server, ahead, 3);
  watch.start([] {});
  for (size_t sent = 1; sent <= 4; ++sent) {
    boost::asio::write(client, boost::asio::buffer(request));
    io.run_for(std::chrono::milliseconds(50));
    EXPECT_EQ(ahead.size(), std::min<size_t>(sent, 3) * request.size()) << sent;
  }
  bool left = false;
  watch.start([&] { left = true; });
  client.close();  // and yet its end is seen
  io.run_for(std::chrono::milliseconds(500));
  EXPECT_TRUE(left);
}

}  // namespace
}  // namespace tidemill
