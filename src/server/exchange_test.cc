#include "server/exchange.h"

#include <gtest/gtest.h>

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

TEST(Exchange, EachPushIsAPieceOfItsOwn) {
  Exchange exchange;
  exchange.start_stream({});
  exchange.push("ab");
  exchange.push("");
  exchange.push("c");
  const Exchange::Output output = exchange.take();
  EXPECT_EQ(output.body, "abc");
  EXPECT_EQ(output.pieces, (std::vector<size_t>{2, 1}));
  exchange.push("d");
  EXPECT_EQ(exchange.take().pieces, (std::vector<size_t>{1}));
}

}  // namespace
}  // namespace tidemill
