#include "server/exchange.h"

#include <gtest/gtest.h>

#include <thread>

#include "executor/failing_allocation.h"

namespace tidemill {
namespace {

AnswerHead head_of(int status) { return {.status = status}; }

TEST(Exchange, AWholeAnswerIsTakenOnce) {
  Exchange exchange;
  EXPECT_FALSE(exchange.take().head.has_value());
  EXPECT_TRUE(exchange.respond(head_of(200), "body"));
  const Exchange::Output output = exchange.take();
  EXPECT_TRUE(output.whole);
  EXPECT_EQ(output.head->status, 200);
  EXPECT_EQ(output.body, "body");
}

TEST(Exchange, ER_6_TheHeadOfAStreamWaitsForItsFirstBytes) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  EXPECT_FALSE(exchange.take().head.has_value());
  exchange.push("one");
  exchange.push("two");
  const Exchange::Output output = exchange.take();
  EXPECT_EQ(output.head->status, 200);
  EXPECT_EQ(output.body, "onetwo");
  EXPECT_FALSE(output.ended);
}

TEST(Exchange, ER_6_AWaitingHeadMayBeReleasedWithoutBytes) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  exchange.release_head();
  EXPECT_TRUE(exchange.take().head.has_value());
  EXPECT_FALSE(exchange.take().head.has_value());
}

TEST(Exchange, ER_6_AHeadWaitsFromTheAdmissionOn) {
  Exchange exchange;
  EXPECT_FALSE(exchange.head_waits_since());
  const auto before = std::chrono::steady_clock::now();
  exchange.start_stream(head_of(200));
  EXPECT_GE(*exchange.head_waits_since(), before);
  exchange.release_head();
  EXPECT_FALSE(exchange.head_waits_since());
}

TEST(Exchange, ER_6_AnErrorBeforeTheHeadReplacesTheStream) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  EXPECT_TRUE(exchange.respond(head_of(500), "error"));
  const Exchange::Output output = exchange.take();
  EXPECT_TRUE(output.whole);
  EXPECT_EQ(output.head->status, 500);
}

TEST(Exchange, ER_7_AnErrorAfterTheHeadIsNotAnAnswerOfItsOwn) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  exchange.push("x");
  exchange.take();
  EXPECT_FALSE(exchange.respond(head_of(500), "error"));
  exchange.push("record", true);
  const Exchange::Output output = exchange.take();
  EXPECT_FALSE(output.whole);
  EXPECT_EQ(output.body, "record");
  EXPECT_TRUE(output.ended);
}

TEST(Exchange, PendingBytesAreThoseNotTaken) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  exchange.push("12345");
  EXPECT_EQ(exchange.pending_bytes(), 5u);
  exchange.take();
  EXPECT_EQ(exchange.pending_bytes(), 0u);
}

TEST(Exchange, EveryChangeWakesTheConnectionUntilItLeaves) {
  Exchange exchange;
  int calls = 0;
  exchange.on_progress([&] { ++calls; });
  exchange.start_stream(head_of(200));
  exchange.push("x");
  exchange.push("");  // nothing new
  exchange.push("", true);
  EXPECT_EQ(calls, 3);
  exchange.on_progress(nullptr);
  exchange.push("y");
  EXPECT_EQ(calls, 3);
}

TEST(Exchange, EachPushIsAChunkOfItsOwn) {
  Exchange exchange(/*chunked=*/true);
  exchange.start_stream({});
  exchange.push("ab");
  exchange.push("");
  exchange.push(std::vector<std::string>{"0123456789abcdef", "c"});
  EXPECT_EQ(exchange.take().body, "2\r\nab\r\n10\r\n0123456789abcdef\r\n1\r\nc\r\n");
  exchange.push("d", true);
  exchange.push("e");  // too late
  EXPECT_EQ(exchange.take().body, "1\r\nd\r\n0\r\n\r\n");
}

// Half a chunk, or a last event without the end behind it, would spoil whatever is said next.
TEST(Exchange, N_3_APushThatFindsNoMemoryIsAsIfItHadNotBeenMade) {
  const std::string event(1000, 'x');
  int64_t num_failures = 0;
  for (bool failed = true; failed; num_failures += failed) {
    failed = false;
    Exchange exchange(/*chunked=*/true);
    exchange.start_stream({});
    exchange.push("first");
    std::vector<std::string> last = {event, "[DONE]"};
    try {
      const FailingAllocation failing(num_failures);
      exchange.push(std::move(last), true);
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    exchange.push("error", true);
    const Exchange::Output output = exchange.take();
    EXPECT_TRUE(output.ended);
    EXPECT_EQ(output.body, failed
                               ? "5\r\nfirst\r\n5\r\nerror\r\n0\r\n\r\n"
                               : "5\r\nfirst\r\n3e8\r\n" + event + "\r\n6\r\n[DONE]\r\n0\r\n\r\n");
  }
  EXPECT_GT(num_failures, 0);
}

TEST(Exchange, ER_6_AnEndedStreamIsNotReplacedByAnError) {
  Exchange exchange;
  exchange.start_stream(head_of(200));
  exchange.push("all", true);
  EXPECT_FALSE(exchange.respond(head_of(500), "error"));
  const Exchange::Output output = exchange.take();
  EXPECT_EQ(output.head->status, 200);
  EXPECT_EQ(output.body, "all");
  EXPECT_TRUE(output.ended);
}

// A socket that takes so many bytes, and the wake-ups of its connection.
class ExchangeWithSocket : public testing::Test {
 protected:
  ExchangeWithSocket() {
    exchange_.on_progress([this] { ++wakes_; });
    exchange_.start_stream({});
    exchange_.lend(send_);
  }

  void let_head_out() {
    exchange_.release_head();
    exchange_.take();
    wakes_ = 0;
  }

  Exchange exchange_;
  int wakes_ = 0;
  size_t room_ = 100;
  std::string sent_;
  const Exchange::Send send_ = [this](std::string_view bytes) {
    const std::string_view taken = bytes.substr(0, room_);
    sent_ += taken;
    room_ -= taken.size();
    return taken.size();
  };
};

TEST_F(ExchangeWithSocket, WhileItIsLentAPushSendsAndWakesNobody) {
  let_head_out();
  const auto before = std::chrono::steady_clock::now();
  exchange_.push("abc");
  exchange_.push("de");
  EXPECT_EQ(sent_, "abcde");
  EXPECT_EQ(wakes_, 0);
  EXPECT_EQ(exchange_.pending_bytes(), 0u);
  EXPECT_GE(exchange_.reclaim(), before);
  exchange_.push("f");
  EXPECT_EQ(sent_, "abcde");
  EXPECT_EQ(wakes_, 1);
  EXPECT_EQ(exchange_.take().body, "f");
}

TEST_F(ExchangeWithSocket, ER_6_NothingIsSentBeforeTheHead) {
  exchange_.push("abc");
  EXPECT_EQ(sent_, "");
  const Exchange::Output output = exchange_.take();
  EXPECT_TRUE(output.head);
  EXPECT_EQ(output.body, "abc");
}

TEST_F(ExchangeWithSocket, WhatTheSocketDoesNotTakeStaysInOrderForTheConnection) {
  let_head_out();
  room_ = 2;
  exchange_.push("abc");
  EXPECT_EQ(wakes_, 1);
  room_ = 100;
  exchange_.push("de");  // behind what waits
  EXPECT_EQ(sent_, "ab");
  EXPECT_EQ(exchange_.take().body, "cde");
}

TEST_F(ExchangeWithSocket, TheEndIsLeftToTheConnection) {
  let_head_out();
  exchange_.push("abc", true);
  EXPECT_EQ(sent_, "");
  EXPECT_EQ(wakes_, 1);
  EXPECT_TRUE(exchange_.take().ended);
}

TEST(Exchange, BytesKeepTheirOrderWhoeverSendsThem) {
  Exchange exchange;
  exchange.start_stream({});
  exchange.release_head();
  exchange.take();
  std::string expected;
  for (int i = 0; i < 20'000; ++i) expected += static_cast<char>('a' + i % 23);
  std::string sent;  // without a lock: two never send at once
  std::thread pool([&] {
    for (const char letter : expected) exchange.push(std::string(1, letter));
    exchange.push("", true);
  });
  for (bool ended = false; !ended;) {
    exchange.lend([&](std::string_view bytes) {
      const size_t taken = sent.size() % 7 == 0 ? 0 : bytes.size();
      sent += bytes.substr(0, taken);
      return taken;
    });
    std::this_thread::yield();
    exchange.reclaim();
    const Exchange::Output output = exchange.take();
    sent += output.body;
    ended = output.ended;
  }
  pool.join();
  EXPECT_EQ(sent, expected);
}

}  // namespace
}  // namespace tidemill
