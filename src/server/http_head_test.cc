#include "server/http_head.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

namespace tidemill {
namespace {

using namespace std::string_literals;

HttpHead good(std::string_view text, const HeadLimits& limits = {}) {
  auto parsed = parse_head(text, limits);
  const auto* problem = std::get_if<HeadProblem>(&parsed);
  EXPECT_EQ(problem, nullptr) << text << ": " << problem->reason;
  return problem == nullptr ? std::get<HttpHead>(std::move(parsed)) : HttpHead{};
}

// 0 when it was accepted.
int status_of(std::string_view text, const HeadLimits& limits = {}) {
  const auto parsed = parse_head(text, limits);
  const auto* problem = std::get_if<HeadProblem>(&parsed);
  return problem == nullptr ? 0 : problem->status;
}

std::string post_with(const std::string& fields) {
  return "POST /invocations HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n";
}

TEST(HttpHead, NamesAreLowerCaseAndValuesLoseTheirBlanks) {
  const HttpHead head = good("GET /ping?a=b HTTP/1.1\r\nHOST: h\r\nX-Thing: \t one two \t\r\n\r\n");
  EXPECT_EQ(head.method, "GET");
  EXPECT_EQ(head.target, "/ping?a=b");
  EXPECT_EQ(head.field("x-thing"), "one two");
  EXPECT_EQ(head.field("absent"), "");
  EXPECT_TRUE(head.keep_alive);
  EXPECT_FALSE(head.content_length.has_value());
}

TEST(HttpHead, ConnectionsStayOpenAsTheirVersionSays) {
  EXPECT_FALSE(good("GET / HTTP/1.0\r\n\r\n").keep_alive);
  EXPECT_TRUE(good("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
  EXPECT_FALSE(good("GET / HTTP/1.1\r\nHost: h\r\nConnection: Close\r\n\r\n").keep_alive);
}

TEST(HttpHead, OneLengthOrChunkedFramesTheBody) {
  EXPECT_EQ(good(post_with("Content-Length: 12\r\n")).content_length, 12u);
  EXPECT_TRUE(good(post_with("Transfer-Encoding: Chunked\r\n")).chunked);
  EXPECT_TRUE(good(post_with("Expect: 100-Continue\r\n")).expects_continue);
}

struct Refusal {
  std::string head;
  int status;
};

TEST(HttpHead, H_5_WhatParsersDisagreeOnIsRefused) {
  const Refusal refusals[] = {
      {post_with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400},
      {post_with("Content-Length: 1\r\nContent-Length: 1\r\n"), 400},
      {post_with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400},
      {post_with("Content-Length: +1\r\n"), 400},
      {post_with("Content-Length: -1\r\n"), 400},
      {post_with("Content-Length: 0x1\r\n"), 400},
      {post_with("Content-Length: 1 2\r\n"), 400},
      {post_with("Content-Length: 1, 1\r\n"), 400},
      {post_with("Content-Length:\r\n"), 400},
      {post_with("Content-Length: 99999999999999999999\r\n"), 400},
      {post_with("Transfer-Encoding: gzip\r\n"), 501},
      {post_with("Transfer-Encoding: gzip, chunked\r\n"), 501},
      {post_with("Transfer-Encoding: chunked, chunked\r\n"), 501},
      {post_with("Transfer-Encoding: xchunked\r\n"), 501},
      {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
      {post_with("X: a\r\n b\r\n"), 400},
      {post_with("X : a\r\n"), 400},
      {post_with(": a\r\n"), 400},
      {post_with("no colon\r\n"), 400},
      {post_with("X: a\rb\r\n"), 400},
      {post_with("X: a\nY: b\r\n"), 400},
      {post_with("X: a\0b\r\n"s), 400},
      {post_with("X: a\x7f\r\n"), 400},
      {"GET /a\tb HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET / x HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET ping HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", 400},
      {"GET /\r\nHost: h\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
  };
  for (const Refusal& refusal : refusals) {
    EXPECT_EQ(status_of(refusal.head), refusal.status) << refusal.head;
  }
}

TEST(HttpHead, H_8_OtherVersionsAreRefusedByNumber) {
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(status_of("GET / HTTP/1.2\r\nHost: h\r\n\r\n"), 505);
  EXPECT_EQ(status_of("GET / SPDY/3\r\nHost: h\r\n\r\n"), 400);
}

TEST(HttpHead, H_8_OtherProtocolsAreKnownByTheirFirstBytes) {
  EXPECT_TRUE(is_other_protocol("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
  EXPECT_TRUE(is_other_protocol("PRI"));
  EXPECT_TRUE(is_other_protocol("\x16\x03\x01"));
  EXPECT_FALSE(is_other_protocol(""));
  EXPECT_FALSE(is_other_protocol("PR"));
  EXPECT_FALSE(is_other_protocol("PRINT / HTTP/1.1"));
}

TEST(HttpHead, H_5_BareLineFeedsAreFoundWhereverTheyStand) {
  EXPECT_TRUE(has_bare_line_feed("\n"));
  EXPECT_TRUE(has_bare_line_feed("GET / HTTP/1.1\r\nHost: h\n"));
  EXPECT_FALSE(has_bare_line_feed("GET / HTTP/1.1\r\nHost: h\r\n"));
  EXPECT_FALSE(has_bare_line_feed(""));
}

TEST(HttpHead, H_1_LimitsHoldWhatTheySayAndRefuseTheNext) {
  const HeadLimits limits{.request_line = 20, .num_fields = 3, .field = 10};
  EXPECT_EQ(status_of("GET /aaaaa HTTP/1.1\r\nHost: h\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET /aaaaaa HTTP/1.1\r\nHost: h\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET /aaaaaaa HTTP/1.1\r\nHost: h\r\n\r\n", limits), 414);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nX: 123456\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nX: 1234567\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nX: 12345678\r\n\r\n", limits), 431);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\n\r\n", limits), 0);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\nHost: h\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n", limits), 431);
}

TEST(HttpHead, DamagedHeadsAreReadOrRefusedAndNothingElse) {
  std::mt19937 random(7);
  const std::string whole = post_with("Content-Length: 12\r\nConnection: close\r\nX: y\r\n");
  for (int round = 0; round < 20'000; ++round) {
    std::string text = whole;
    for (int damage = 0; damage <= round % 3; ++damage) {
      text[random() % text.size()] = static_cast<char>(random());
    }
    const auto parsed = parse_head(text, {});
    if (const auto* head = std::get_if<HttpHead>(&parsed)) {
      EXPECT_FALSE(head->chunked && head->content_length) << text;
      for (const auto& [name, value] : head->fields) {
        EXPECT_EQ((name + value).find_first_of("\r\n\0"s), std::string::npos) << text;
      }
    } else {
      EXPECT_GE(std::get<HeadProblem>(parsed).status, 400) << text;
    }
  }
}

}  // namespace
}  // namespace tidemill
