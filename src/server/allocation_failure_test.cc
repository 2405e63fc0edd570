// Memory that is not there between a request's body and its answer: whichever allocation fails, the
// request has one ending, is counted once, and holds nothing afterwards.
#include <gmock/gmock.h>

#include <atomic>
#include <charconv>
#include <future>
#include <optional>

#include "base/check.h"
#include "executor/failing_new.h"
#include "server/generate_handler.h"
#include "server/test_server.h"

namespace tidemill {
namespace {

constexpr int64_t kAllThatCome = 1'000'000'000;

// The loop goes on when the test lets it, so its allocations are those of the test's thread.
class AllocationFailureTest : public ServerTest {
 protected:
  void open(const std::vector<ScriptRule>& rules) {
    if (!executor_) registry_.add("m", {"m"});
    load(rules, {}, {.own_thread = false});
  }

  std::shared_ptr<GenerateTask> make_task(std::string body) {
    ++num_requests_;
    Route route{
        .kind = RouteKind::kCompletion, .dialect = Dialect::kOpenAi, .pattern = "/v1/completions"};
    return std::make_shared<GenerateTask>(HandlerContext{registry_, pool_, server_metrics_},
                                          std::move(route), HttpHead{.method = "POST"},
                                          std::move(body), "id", Caller{}, exchange_);
  }

  std::shared_ptr<GenerateTask> started(std::string body) {
    exchange_ = std::make_shared<Exchange>();
    auto task = make_task(std::move(body));
    task->start();
    settle();
    EXPECT_FALSE(executor_->idle());
    return task;
  }

  // When everything that was posted so far has run.
  void settle() {
    std::promise<void> settled;
    pool_.post([&settled] { settled.set_value(); });
    settled.get_future().wait();
  }

  bool comes_to_its_end(GenerateTask& task) {
    for (int i = 0; i < 100; ++i) {
      const Exchange::Output output = exchange_->take();
      if (output.whole || output.ended) return true;
      task.resume();
      executor_->turn();
      settle();
    }
    return false;
  }

  // A task that the pool was at work on is let go by the pool.
  void expect_quiet() {
    for (int i = 0; i < 20 && !executor_->idle(); ++i) {
      settle();
      executor_->turn();
    }
    EXPECT_TRUE(executor_->idle());
    EXPECT_EQ(metric("tidemill:requests_rejected_total") + metric("vllm:request_success_total"),
              num_requests_);
  }

  // In the pool's thread, from now on.
  void fail_in_pool(int64_t number) {
    pool_.post([number] {
      FailingAllocation::left = number;
      FailingAllocation::in_a_row = 1;
    });
    settle();
  }
  bool end_failing_in_pool() {
    std::promise<bool> came;
    pool_.post([&came] {
      came.set_value(FailingAllocation::came());
      FailingAllocation::left = FailingAllocation::kNone;
    });
    return came.get_future().get();
  }

  int num_requests_ = 0;
  ServerMetrics server_metrics_{metrics_};
  std::shared_ptr<Exchange> exchange_;
  TextPool pool_{1};
};

// What the loop has for a reader and cannot call it for, it calls it for a turn later.
TEST_F(AllocationFailureTest, N_3_AStreamThatNoMemoryWokeGoesOnWhenThereIsSome) {
  bool came = true;
  for (int64_t number = 0; came; ++number) {
    open({scripted("*", "abcd")});  // a loop's first turn takes memory that the next ones find
    const auto task = started(R"({"prompt":"x","stream":true,"max_tokens":8})");
    {
      const FailingAllocation failing(number);
      executor_->turn();
      came = FailingAllocation::came();
    }
    ASSERT_TRUE(comes_to_its_end(*task)) << "allocation " << number;
    expect_quiet();
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(num_requests_, 20);
}

// What a connection does: looks only when it is called, and takes until there is nothing.
class CalledReader {
 public:
  explicit CalledReader(std::shared_ptr<Exchange> exchange) : exchange_(std::move(exchange)) {
    exchange_->on_progress([this] { called_.store(true); });
  }
  CalledReader(const CalledReader&) = delete;
  CalledReader& operator=(const CalledReader&) = delete;
  ~CalledReader() { exchange_->on_progress(nullptr); }

  void read(GenerateTask& task) {
    if (!called_.exchange(false)) return;
    for (bool more = true; more && !has_ended();) {
      Exchange::Output output = exchange_->take();
      if (output.head) status = output.head->status;
      bytes += output.body;
      whole = output.whole;
      ended = output.ended;
      broken = output.broken;
      more = !output.body.empty();
      task.resume();
    }
  }
  bool has_ended() const { return whole || ended || broken; }

  int status = 0;
  std::string bytes;
  bool whole = false, ended = false, broken = false;

 private:
  const std::shared_ptr<Exchange> exchange_;  // shared with the task
  std::atomic<bool> called_{false};
};

// The events of a stream whose chunks are as HTTP asks, each one event or several, and whose end is
// there; nothing when they are not.
std::optional<std::string> unframed(std::string_view bytes) {
  std::string events;
  for (;;) {
    size_t size = 0;
    const auto end = std::from_chars(bytes.data(), bytes.data() + bytes.size(), size, 16).ptr;
    bytes.remove_prefix(static_cast<size_t>(end - bytes.data()));
    if (bytes.size() < size + 4 || bytes.substr(0, 2) != "\r\n") return std::nullopt;
    if (bytes.substr(2 + size, 2) != "\r\n") return std::nullopt;
    events += bytes.substr(2, size);
    bytes.remove_prefix(size + 4);
    if (size == 0) return bytes.empty() ? std::optional(events) : std::nullopt;
  }
}

int64_t count_of(std::string_view text, std::string_view word) {
  int64_t count = 0;
  for (size_t at = text.find(word); at != text.npos; at = text.find(word, at + 1)) ++count;
  return count;
}

void expect_one_ending(const CalledReader& reader, bool stream) {
  if (reader.broken) return;  // the connection ends
  if (reader.whole) {
    EXPECT_TRUE(reader.status == 500 || (reader.status == 200 && !stream)) << reader.status;
    EXPECT_EQ(count_of(reader.bytes, "\"error\":"), reader.status == 500);
    return;
  }
  EXPECT_EQ(reader.status, 200);
  const auto events = unframed(reader.bytes);
  ASSERT_TRUE(events) << reader.bytes;
  EXPECT_TRUE(events->ends_with("data: [DONE]\n\n")) << *events;
  EXPECT_EQ(count_of(*events, "[DONE]"), 1) << *events;
  EXPECT_EQ(count_of(*events, "\"error\":") + count_of(*events, "\"finish_reason\":\""), 1)
      << *events;
}

TEST_F(AllocationFailureTest, N_3_WhicheverAllocationOfThePoolFailsTheRequestHasOneEnding) {
  open({scripted("*", "abcd")});
  for (const bool stream : {true, false}) {
    int num_good = 0;
    bool came = true;
    for (int64_t number = 0; came; ++number) {
      exchange_ = std::make_shared<Exchange>(/*chunked=*/true);
      CalledReader reader(exchange_);
      const auto task = make_task(format(R"({{"prompt":"x","max_tokens":8,"stream":{}}})", stream));
      fail_in_pool(number);
      task->start();
      settle();
      for (int i = 0; i < 20 && !reader.has_ended(); ++i) {
        executor_->turn();
        settle();
        reader.read(*task);
      }
      came = end_failing_in_pool();
      ASSERT_TRUE(reader.has_ended()) << "silent behind allocation " << number << reader.bytes;
      expect_one_ending(reader, stream);
      num_good += reader.status == 200;
      expect_quiet();
      ASSERT_FALSE(testing::Test::HasFailure()) << "allocation " << number;
    }
    EXPECT_GT(num_good, 1);
  }
  EXPECT_GT(num_requests_, 200);
}

// The connection lets go of a request as it goes itself, where nothing may be thrown.
TEST_F(AllocationFailureTest, N_3_WhoLeavesWhenThereIsNoMemoryIsLetGo) {
  open({scripted("*", std::string(100, 'z'))});
  for (int64_t number = 0; number < 40; ++number) {
    auto task = started(R"({"prompt":"x","stream":true,"max_tokens":100,"n":2})");
    for (int64_t turns = 0; turns < number % 4; ++turns) executor_->turn();
    settle();
    {
      const FailingAllocation failing(number / 4, kAllThatCome);
      task->abandon();
      task.reset();
    }
    num_requests_ += 1;  // two choices
    expect_quiet();
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace tidemill
