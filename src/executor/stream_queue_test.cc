#include "executor/stream_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

namespace tidemill {
namespace {

TokenRecord token(TokenId id) { return {.token = TokenChoice{.token = id}}; }

RequestTimes::Time at(int second) { return RequestTimes::Time{std::chrono::seconds(second)}; }

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

TEST(StreamQueue, N_3_AReaderThatCouldNotBeCalledIsCalledAgain) {
  StreamQueue queue;
  int calls = 0;
  queue.on_ready([&calls] {
    if (++calls <= 2) throw std::bad_alloc();
  });
  queue.put(token(1));
  EXPECT_FALSE(queue.announce());
  queue.push(token(2));
  EXPECT_EQ(calls, 2) << "the next record says it again";
  EXPECT_TRUE(queue.announce());
  EXPECT_EQ(calls, 3) << "and whoever noticed may";
  EXPECT_TRUE(queue.announce());
  EXPECT_EQ(calls, 3) << "it has heard, and has not taken yet";
  EXPECT_EQ(queue.take().records.size(), 2u);
}

// Nothing may come any more that would call it again.
TEST(StreamQueue, N_3_AReaderThatCannotBeCalledForWhatLiesThereIsTold) {
  StreamQueue queue;
  queue.push(token(1));
  EXPECT_THROW(queue.on_ready([] { throw std::bad_alloc(); }), std::bad_alloc);
  int calls = 0;
  queue.on_ready([&] { ++calls; });
  EXPECT_EQ(calls, 1);
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
  StreamQueue queue(at(1));
  EXPECT_EQ(queue.times(), RequestTimes{.arrival = at(1)});
  queue.push({.times = {at(1), at(3), at(4), at(9)}});
  queue.push({.times = {at(1), at(2), at(5), at(6)}});
  queue.push({.choice = 2});  // one that ends before it began
  const RequestTimes times = queue.times();
  EXPECT_EQ(times.arrival, at(1));
  EXPECT_EQ(times.first_scheduled, at(2));
  EXPECT_EQ(times.first_token, at(4));
  EXPECT_EQ(times.last_token, at(9));
}

TEST(StreamQueue, CachedTokensAddUpOverThePrompts) {
  StreamQueue queue;
  EXPECT_EQ(queue.cached_tokens(), 0);
  queue.push({.cached_tokens = 64});
  queue.push({.choice = 1});
  queue.push({.choice = 2, .cached_tokens = 32});
  EXPECT_EQ(queue.cached_tokens(), 96) << "known before anything is read";
}

TokenRecord random_record(std::mt19937_64& random) {
  TokenRecord record{.choice = static_cast<int32_t>(random()),
                     .times = {at(1), at(2), at(3), at(static_cast<int>(random() % 9))},
                     .cached_tokens = static_cast<int64_t>(random()),
                     .prompt = std::vector<TokenChoice>(random() % 3, {1, -0.5f, {{2, -1.0f}}})};
  if (random() % 2 == 0) {
    record.token = TokenChoice{.token = static_cast<TokenId>(random()), .logprob = -0.5f};
    record.token->top.resize(random() % 4, {static_cast<TokenId>(random()), -1.5f});
  }
  if (random() % 2 == 0) {
    record.end = SequenceEnd{.id = static_cast<SequenceId>(random()),
                             .reason = static_cast<EndReason>(random() % 4)};
    if (random() % 2 == 0) record.end->stop_id = static_cast<TokenId>(random());
  }
  if (random() % 2 == 0) {
    record.error = Error{.kind = static_cast<ErrorKind>(random() % 24),
                         .field = std::string(random() % 9, 'f'),
                         .message = std::string(random() % 9, 'm')};
  }
  return record;
}

TEST(TokenRecord, SurvivesAsBytes) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 500; ++round) {
    const TokenRecord record = random_record(random);
    EXPECT_EQ(token_record_from_bytes(to_bytes(record)), record);
  }
}

TEST(TokenRecord, CutOrLengthenedBytesAreNoRecord) {
  std::mt19937_64 random(4);
  for (int round = 0; round < 20; ++round) {
    const std::string bytes = to_bytes(random_record(random));
    for (size_t length = 0; length < bytes.size(); ++length) {
      EXPECT_EQ(token_record_from_bytes(bytes.substr(0, length)), std::nullopt) << length;
    }
    EXPECT_EQ(token_record_from_bytes(bytes + '\0'), std::nullopt);
  }
}

TEST(TokenRecord, AnUnknownReasonOrKindIsNoRecord) {
  for (const int value : {-1, 4}) {
    const TokenRecord record{.end = SequenceEnd{.reason = static_cast<EndReason>(value)}};
    EXPECT_EQ(token_record_from_bytes(to_bytes(record)), std::nullopt) << value;
  }
  for (const int value : {-1, static_cast<int>(ErrorKind::kInternal) + 1}) {
    const TokenRecord record{
        .error = Error{.kind = static_cast<ErrorKind>(value), .field = "", .message = ""}};
    EXPECT_EQ(token_record_from_bytes(to_bytes(record)), std::nullopt) << value;
  }
}

TEST(TokenRecord, DamagedBytesAreReadWithoutHarm) {
  std::mt19937_64 random(6);
  int num_read = 0;
  for (int round = 0; round < 5000; ++round) {
    std::string bytes = to_bytes(random_record(random));
    for (uint64_t i = 1 + random() % 4; i > 0; --i) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto record = token_record_from_bytes(bytes);
    if (!record) continue;
    EXPECT_EQ(to_bytes(*record), bytes) << "what is accepted means what it says";
    ++num_read;
  }
  EXPECT_GT(num_read, 500);
}

TEST(StreamQueue, SS_5_WhatOneStepPutsIsAnnouncedOnce) {
  StreamQueue queue;
  int calls = 0;
  queue.on_ready([&] { ++calls; });
  queue.put({.choice = 0});
  EXPECT_EQ(queue.put({.choice = 1}), 2);
  EXPECT_EQ(calls, 0);
  queue.announce();
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(queue.take().records.size(), 2u);
}

}  // namespace
}  // namespace tidemill
