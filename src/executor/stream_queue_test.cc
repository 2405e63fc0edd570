#include "executor/stream_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace tidemill {
namespace {

TokenRecord token(TokenId id) { return {.token = TokenChoice{.token = id}}; }

RequestTimes::Time at(int seconds) { return RequestTimes::Time{std::chrono::seconds(seconds)}; }

TEST(StreamQueue, RecordsComeInOrderAndOnce) {
  StreamQueue queue;
  EXPECT_EQ(queue.push(token(1)), 1);
  EXPECT_EQ(queue.push(token(2)), 2);
  const StreamQueue::Taken taken = queue.take();
  ASSERT_EQ(taken.records.size(), 2u);
  EXPECT_EQ(taken.records[1].token->token, 2);
  EXPECT_TRUE(queue.take().records.empty());
  EXPECT_EQ(queue.push(token(3)), 1) << "only what is unread counts";
}

TEST(StreamQueue, AnErrorLeavesWhatIsUnreadAndTheFirstOneStays) {
  StreamQueue queue;
  queue.push(token(1));
  queue.fail({.kind = ErrorKind::kDraining, .field = "", .message = "first"});
  queue.fail({.kind = ErrorKind::kEngineError, .field = "", .message = "second"});
  const StreamQueue::Taken taken = queue.wait();
  EXPECT_EQ(taken.records.size(), 1u);
  EXPECT_EQ(taken.error->message, "first");
}

TEST(StreamQueue, AReaderIsCalledOnceUntilItTakes) {
  StreamQueue queue;
  int calls = 0;
  queue.on_ready([&] { ++calls; });
  EXPECT_EQ(calls, 0);
  queue.push(token(1));
  queue.push(token(2));
  EXPECT_EQ(calls, 1);
  queue.take();
  queue.push(token(3));
  EXPECT_EQ(calls, 2);
}

TEST(StreamQueue, AReaderThatComesLateIsCalledForWhatLiesThere) {
  StreamQueue queue;
  queue.push(token(1));
  int calls = 0;
  queue.on_ready([&] { ++calls; });
  EXPECT_EQ(calls, 1);
}

TEST(StreamQueue, TheCallMayTakeAndMayGiveTheStreamUp) {
  StreamQueue queue;
  size_t taken = 0;
  queue.on_ready([&] {
    taken += queue.take().records.size();
    queue.on_ready(nullptr);
  });
  queue.push(token(1));
  queue.push(token(2));
  EXPECT_EQ(taken, 1u);
}

TEST(StreamQueue, WhoGivesAStreamUpIsNotCalledAnyMore) {
  StreamQueue queue;
  std::atomic<bool> inside{false}, leaving{false}, left{false};
  queue.on_ready([&] {
    inside = true;
    while (!leaving) std::this_thread::yield();
    for (int i = 0; i < 1000; ++i) std::this_thread::yield();
    left = true;
  });
  std::thread loop([&] { queue.push(token(1)); });
  while (!inside) std::this_thread::yield();
  leaving = true;
  queue.on_ready(nullptr);
  EXPECT_TRUE(left) << "the call was still running when its reader was told that it was over";
  loop.join();
}

TEST(StreamQueue, NothingIsLostBetweenTwoThreads) {
  StreamQueue queue;
  constexpr int kTokens = 20000;
  std::thread loop([&] {
    for (int i = 0; i < kTokens; ++i) queue.push(token(i));
  });
  TokenId next = 0;
  while (next < kTokens) {
    for (const TokenRecord& record : queue.wait().records) EXPECT_EQ(record.token->token, next++);
  }
  loop.join();
}

TEST(StreamQueue, TimesAreOfTheFirstToBeginAndTheLastToSpeak) {
  StreamQueue queue;
  queue.merge_times({.arrival = at(1)});
  queue.merge_times(
      {.arrival = at(1), .first_scheduled = at(3), .first_token = at(4), .last_token = at(9)});
  queue.merge_times(
      {.arrival = at(1), .first_scheduled = at(2), .first_token = at(5), .last_token = at(6)});
  const RequestTimes times = queue.times();
  EXPECT_EQ(times.arrival, at(1));
  EXPECT_EQ(times.first_scheduled, at(2));
  EXPECT_EQ(times.first_token, at(4));
  EXPECT_EQ(times.last_token, at(9));
}

}  // namespace
}  // namespace tidemill
