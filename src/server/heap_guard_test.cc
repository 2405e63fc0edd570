#include "server/heap_guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <thread>

#include "server/test_server.h"

namespace tidemill {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::StartsWith;

constexpr std::string_view kClose = "Connection: close\r\n";

TEST(HeapGuard, H_10_TheSharesOfTheBudgetAreThose) {
  int64_t used = 5000;
  HeapGuard guard([&used] { return used; });
  HeapGuard::Time now{};
  const auto level = [&](int64_t taken) {
    used = 5000 + taken;
    now += milliseconds(100);
    guard.look(now);
    return guard.level();
  };
  EXPECT_EQ(level(1'000'000), HeapGuard::Level::kRoom) << "nobody has said how much";
  used = 5000;
  guard.allow(1000);
  EXPECT_EQ(level(949), HeapGuard::Level::kRoom);
  EXPECT_EQ(level(950), HeapGuard::Level::kTight);
  EXPECT_EQ(level(979), HeapGuard::Level::kTight);
  EXPECT_EQ(level(980), HeapGuard::Level::kFull);
  EXPECT_EQ(level(-100), HeapGuard::Level::kRoom) << "what was loaded may go, too";
}

TEST(HeapGuard, CountsAtMostTenTimesASecond) {
  int64_t counts = 0;
  HeapGuard guard([&counts] { return ++counts; });
  HeapGuard::Time now{};
  for (int i = 0; i < 1000; ++i, now += milliseconds(1)) guard.look(now);
  EXPECT_EQ(counts, 10);
}

TEST(HeapGuard, TheHeapHasWhatWasAllocated) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer has a heap of its own";
#endif
  const int64_t before = heap_bytes();
  for (const size_t size : {size_t{1000}, size_t{64} << 20}) {
    const auto block = std::make_unique<char[]>(size);
    EXPECT_GE(heap_bytes() - before, static_cast<int64_t>(size));
  }
  EXPECT_LT(heap_bytes() - before, 10'000) << "but what malloc keeps for the next small block";
}

class NearTheEnd : public ServerTest {
 protected:
  void begin(std::vector<ScriptRule> rules) {
    guard_.allow(100);
    ServerOptions options;
    options.heap = &guard_;
    start(std::move(rules), options);
  }
  // Of the budget; by now the next look counts anew.
  void take(int64_t percent) {
    used_.store(percent);
    std::this_thread::sleep_for(milliseconds(150));
  }
  std::string ask(std::string_view path, std::string_view body) {
    return exchange(post(path, body, kClose));
  }

  template <typename Condition>
  static bool becomes(Condition condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) std::this_thread::sleep_for(milliseconds(10));
    return condition();
  }

  std::atomic<int64_t> used_{0};
  HeapGuard guard_{[this] { return used_.load(); }};
};

TEST_F(NearTheEnd, H_10_NewWorkIsRefusedAndWhatRunsGoesOn) {
  begin({scripted("slow", std::string(200, 'z'), 5), scripted("*", "ok")});
  Client slow(server_->port());
  slow.send(post("/v1/completions", R"({"prompt":"slow","max_tokens":300})", kClose));
  while (executor_->stats().running == 0) std::this_thread::yield();
  take(97);
  EXPECT_THAT(ask("/v1/completions", R"({"prompt":"x"})"), StartsWith("HTTP/1.1 200 "));
  take(98);
  for (const auto& [path, body] : {std::pair{"/v1/completions", R"({"prompt":"x"})"},
                                   {"/v1/chat/completions", R"({"messages":[]})"},
                                   {"/invocations", R"({"inputs":"x"})"}}) {
    const std::string refused = ask(path, body);
    EXPECT_THAT(refused, StartsWith("HTTP/1.1 503 ")) << path;
    EXPECT_THAT(refused, HasSubstr("Retry-After: 1\r\n"));
    EXPECT_THAT(refused, HasSubstr("\"overloaded\""));
    EXPECT_THAT(refused, HasSubstr("heap_budget, 100 bytes"));
  }
  EXPECT_THAT(exchange(get("/ping")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(exchange(get("/metrics")), StartsWith("HTTP/1.1 200 "));
  EXPECT_THAT(slow.read_all(), HasSubstr(std::string(200, 'z')));
  take(90);
  EXPECT_THAT(ask("/v1/completions", R"({"prompt":"x"})"), StartsWith("HTTP/1.1 200 "));
}

TEST_F(NearTheEnd, H_10_CachesGoFirst) {
  begin({scripted("*", "ok")});
  const std::string body = R"({"prompt":")" + std::string(200, 'p') + R"("})";
  const auto cached = [this] { return executor_->stats().cached_blocks; };
  ask("/v1/completions", body);
  ASSERT_TRUE(becomes([&] { return cached() == 6; }));
  take(94);
  ask("/v1/completions", R"({"prompt":"x"})");
  EXPECT_EQ(cached(), 6);
  take(95);
  EXPECT_THAT(ask("/v1/completions", R"({"prompt":"x"})"), StartsWith("HTTP/1.1 200 "));
  EXPECT_TRUE(becomes([&] { return cached() == 0; }));
}

}  // namespace
}  // namespace tidemill
