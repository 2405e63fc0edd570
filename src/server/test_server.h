// For tests: the real server on a free port, a model that is a script, and a client that sees
// bytes.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "base/test_waiting.h"
#include "executor/byte_tokenizer.h"
#include "executor/executor.h"
#include "executor/script_runner.h"
#include "server/server.h"

namespace tidemill {

inline ScriptRule scripted(std::string when, std::string_view reply, int64_t delay_ms = 0) {
  ScriptRule rule{.when = std::move(when), .delay_ms = delay_ms};
  for (const char c : reply) rule.reply.push_back(static_cast<unsigned char>(c));
  rule.reply.push_back(kScriptEndId);
  return rule;
}

// A socket to the server. Reads wait at most ten seconds, so a lost answer fails and never hangs.
class Client {
 public:
  explicit Client(uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval patience{.tv_sec = 10, .tv_usec = 0};
    setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { ::close(socket_); }

  void send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent <= 0) return;
      bytes.remove_prefix(static_cast<size_t>(sent));
    }
  }

  // Until `end` has been seen; the bytes up to and with it. What follows stays for later.
  std::string read_until(std::string_view end) {
    while (received_.find(end) == std::string::npos) {
      if (!receive()) {
        ADD_FAILURE() << "no " << end << " in: " << received_;
        return std::exchange(received_, {});
      }
    }
    const size_t size = received_.find(end) + end.size();
    const std::string bytes = received_.substr(0, size);
    received_.erase(0, size);
    return bytes;
  }

  // Until the server closes.
  std::string read_all() {
    while (receive()) {
    }
    EXPECT_TRUE(closed_) << "the server did not close after: " << received_;
    return std::exchange(received_, {});
  }

 private:
  bool receive() {
    char bytes[4096];
    const ssize_t got = ::recv(socket_, bytes, sizeof bytes, 0);
    closed_ = got == 0;
    if (got <= 0) return false;
    received_.append(bytes, static_cast<size_t>(got));
    return true;
  }

  int socket_;
  std::string received_;
  bool closed_ = false;
};

class ServerTest : public testing::Test {
 protected:
  void start(std::vector<ScriptRule> rules, ServerOptions options = {}) {
    options.host = "127.0.0.1";
    options.port = 0;
    registry_.add("m", {"m", "alias"});
    load(std::move(rules));
    listen(options);
  }

  void load(std::vector<ScriptRule> rules, ExecutorOptions options = {},
            const LoopDriver& driver = {}) {
    executor_ = make_executor(std::move(rules), "m", options, driver);
    facts_.name = "m";
    facts_.served_names = {"m", "alias"};
    facts_.limits = executor_->limits();
    registry_.set_ready(0, facts_, *executor_);
  }

  std::unique_ptr<Executor> make_executor(std::vector<ScriptRule> rules, std::string name,
                                          ExecutorOptions options = {},
                                          const LoopDriver& driver = {}) {
    const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer_json());
    const auto chat = std::make_shared<const ChatTemplate>(byte_chat_template(), JsonObject{});
    options.max_model_len = 4096;
    options.scheduler.groups = {{.num_blocks = 1024}};
    const TextParts text{.tokenizer = tokenizer, .chat_template = chat, .end_ids = {kScriptEndId}};
    return std::make_unique<Executor>(
        std::make_unique<ScriptRunner>(Script{.rules = std::move(rules)}), text, options, metrics_,
        std::move(name), driver);
  }

  void listen(ServerOptions options) {
    options.host = "127.0.0.1";
    options.port = 0;
    server_ = std::make_unique<Server>(options, registry_, metrics_);
    thread_ = std::thread([this] { server_->run(); });
  }

  void TearDown() override {
    if (server_ != nullptr) server_->drain();
    if (thread_.joinable()) thread_.join();
  }

  // One request on a connection of its own; the whole answer.
  std::string exchange(std::string_view request) {
    Client client(server_->port());
    client.send(request);
    return client.read_all();
  }

  static std::string get(std::string_view path, std::string_view fields = "") {
    return "GET " + std::string(path) + " HTTP/1.1\r\nHost: h\r\n" + std::string(fields) +
           "Connection: close\r\n\r\n";
  }

  // Keeps the connection open.
  static std::string post(std::string_view path, std::string_view body,
                          std::string_view fields = "") {
    return "POST " + std::string(path) + " HTTP/1.1\r\nHost: h\r\nContent-Type: application/json" +
           "\r\n" + std::string(fields) + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string(body);
  }

  // What a line of the metrics page says, whatever its labels are; their sum.
  double metric(const std::string& name) const {
    double sum = 0.0;
    std::istringstream page(metrics_.text());
    for (std::string line; std::getline(page, line);) {
      if (line.starts_with(name + "{") || line.starts_with(name + " ")) {
        sum += std::stod(line.substr(line.rfind(' ')));
      }
    }
    return sum;
  }

  // Waits for the loop to have nothing left; the client's leaving must bring this about.
  bool becomes_idle() const {
    return comes_true([&] { return executor_->idle() && executor_->stats().held_blocks == 0; });
  }

  MetricsRegistry metrics_;
  std::unique_ptr<Executor> executor_;
  ModelFacts facts_;
  ModelRegistry registry_{metrics_};
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

}  // namespace tidemill
