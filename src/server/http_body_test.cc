#include "server/http_body.h"

#include <gtest/gtest.h>

#include <array>

#include "base/check.h"

namespace tidemill {
namespace {

using State = HttpBody::State;

constexpr int64_t kMaxBytes = 100'000;

const HttpHead kChunked{.method = "POST", .chunked = true};

// What becomes of a body whose bytes come in pieces of that size. What is not taken is kept, as a
// connection does; never may that be much.
State after(const HttpHead& head, std::string_view bytes, size_t piece = 1000) {
  HttpBody body(head, kMaxBytes);
  std::string waiting;
  while (!bytes.empty() && body.state() == State::kMore) {
    waiting += bytes.substr(0, piece);
    bytes.remove_prefix(std::min(piece, bytes.size()));
    waiting.erase(0, body.put(waiting));
    EXPECT_LE(waiting.size(), (8u << 10) + piece);
  }
  return body.state();
}

TEST(HttpBody, AHeadWithoutABodyIsDoneAtOnce) {
  EXPECT_EQ(HttpBody({.method = "GET"}, kMaxBytes).state(), State::kDone);
  EXPECT_EQ(HttpBody({.method = "POST", .content_length = 0}, kMaxBytes).state(), State::kDone);
}

TEST(HttpBody, WhatFollowsTheBodyIsLeftAlone) {
  HttpBody sized({.method = "POST", .content_length = 3}, kMaxBytes);
  EXPECT_EQ(sized.put("abcGET /"), 3u);
  EXPECT_EQ(sized.take(), "abc");
  HttpBody chunked(kChunked, kMaxBytes);
  EXPECT_EQ(chunked.put("2\r\nab\r\n1\r\nc\r\n0\r\n\r\nGET /"), 18u);
  EXPECT_EQ(chunked.state(), State::kDone);
  EXPECT_EQ(chunked.take(), "abc");
}

TEST(HttpBody, TheBytesMayComeInAnyPieces) {
  std::string bytes;
  for (int i = 0; i < 50; ++i) bytes += "100;a=b\r\n" + std::string(256, 'x') + "\r\n";
  bytes += "0\r\nX: y\r\n\r\n";
  for (const size_t piece : {1u, 7u, 1000u, 100'000u}) {
    EXPECT_EQ(after(kChunked, bytes, piece), State::kDone) << piece;
  }
}

TEST(HttpBody, AnEmptyBodyMayEndByteByByte) {
  for (const char* bytes : {"0\r\n\r\n", "0\r\nX: y\r\n\r\n", "000\r\n\r\n", "0;a\r\n\r\n"}) {
    for (const size_t piece : {1u, 2u, 3u, 4u}) {
      EXPECT_EQ(after(kChunked, bytes, piece), State::kDone) << bytes << " by " << piece;
    }
  }
  EXPECT_EQ(after(kChunked, "1\r\n0\r\n0\r\n\r\n", 1), State::kDone) << "a zero in the body";
}

TEST(HttpBody, H_3_ABodyIsRefusedAtTheByteThatIsTooMuch) {
  const auto chunk = [](size_t bytes) {
    return format("{:x}\r\n", bytes) + std::string(bytes, 'x') + "\r\n0\r\n\r\n";
  };
  EXPECT_EQ(after(kChunked, chunk(kMaxBytes)), State::kDone);
  EXPECT_EQ(after(kChunked, chunk(kMaxBytes + 1).substr(0, 10)), State::kTooLarge);
}

TEST(HttpBody, H_4_ALineOfAChunkThatDoesNotEndIsRefused) {
  EXPECT_EQ(after(kChunked, "1;" + std::string(256, 'e')), State::kMore);
  EXPECT_EQ(after(kChunked, "1;" + std::string(50'000, 'e')), State::kMalformed);
  EXPECT_EQ(after(kChunked, "1;" + std::string(300, 'e') + "\r\nx\r\n"), State::kMalformed);
  EXPECT_EQ(after(kChunked, std::string(50'000, '0')), State::kMalformed);
}

TEST(HttpBody, H_4_TrailersAreBoundedWhetherTheyEndOrNot) {
  const auto trailer = [](size_t bytes) { return "0\r\nX: " + std::string(bytes, 't'); };
  EXPECT_EQ(after(kChunked, trailer(8000) + "\r\n\r\n"), State::kDone);
  for (const size_t bytes : {9'000u, 70'000u}) {
    for (const size_t piece : {1000u, 100'000u}) {
      EXPECT_EQ(after(kChunked, trailer(bytes), piece), State::kMalformed) << bytes;
      EXPECT_EQ(after(kChunked, trailer(bytes) + "\r\n\r\n", piece), State::kMalformed) << bytes;
    }
  }
}

TEST(HttpBody, H_4_LimitsHoldWhatTheySayAndRefuseTheNext) {
  const BodyLimits limits{.num_chunks = 10, .chunk_extension = 20, .trailers = 30};
  const auto state_of = [&](const std::string& bytes) {
    std::array<State, 2> states{};
    for (size_t i = 0; i < 2; ++i) {  // byte for byte, and at once
      HttpBody body(kChunked, kMaxBytes, limits);
      std::string waiting;
      const size_t piece = i == 0 ? 1 : bytes.size();
      for (size_t at = 0; at < bytes.size() && body.state() == State::kMore; at += piece) {
        waiting += bytes.substr(at, piece);
        waiting.erase(0, body.put(waiting));
      }
      states[i] = body.state();
    }
    EXPECT_EQ(states[0], states[1]) << bytes;
    return states[0];
  };
  for (const int more : {-1, 0, 1}) {
    const State expected = more > 0 ? State::kMalformed : State::kDone;
    std::string chunks;
    for (int i = 0; i < 10 + more; ++i) chunks += "1\r\n \r\n";
    EXPECT_EQ(state_of(chunks + "0\r\n\r\n"), expected) << more;
    const auto size = static_cast<size_t>(20 + more);
    EXPECT_EQ(state_of("1;" + std::string(size - 1, 'e') + "\r\nx\r\n0\r\n\r\n"), expected) << more;
    EXPECT_EQ(state_of("0\r\nX:" + std::string(size + 10 - 4, 't') + "\r\n\r\n"), expected) << more;
    const std::string two = "0\r\nX: y\r\nZ:" + std::string(size + 10 - 10, 't') + "\r\n\r\n";
    EXPECT_EQ(state_of(two), expected) << more;
  }
}

TEST(HttpBody, H_5_ChunksAreReadToTheLetter) {
  for (const char* bytes : {"+1\r\n",
                            "-1\r\n",
                            "0x1\r\n",
                            " 1\r\n",
                            "1 \r\n",
                            "1 ;a\r\n",
                            ";a\r\n",
                            "\r\n",
                            "1\n",
                            "1\rx\n",
                            "11111111111111111\r\n",
                            "00000000000000001\r\n",
                            "1;a\x01\r\n",
                            "1\r\nxy",
                            "1\r\nx\n",
                            "0\r\n: y\r\n",
                            "0\r\nno colon\r\n",
                            "0\r\n X: folded\r\n",
                            "0\r\nX: y\n",
                            "0\r\nX: \x01\r\n"}) {
    EXPECT_EQ(after(kChunked, bytes), State::kMalformed) << bytes;
  }
  EXPECT_EQ(after(kChunked, "7fffffffffffffff\r\n"), State::kTooLarge);
  EXPECT_EQ(after(kChunked, "ffffffffffffffff\r\n"), State::kTooLarge);
}

TEST(HttpBody, H_3_ABodyNeverHoldsMoreThanItsLimit) {
  HttpBody body(kChunked, kMaxBytes);
  std::string bytes;
  for (int i = 0; i < 1000; ++i) bytes += "64\r\n" + std::string(100, 'x') + "\r\n";
  while (!bytes.empty()) bytes.erase(0, body.put(bytes.substr(0, 1000)));
  EXPECT_EQ(body.put("0\r\n\r\n"), 5u);
  ASSERT_EQ(body.state(), State::kDone);
  EXPECT_LE(body.take().capacity(), static_cast<size_t>(kMaxBytes));
}

}  // namespace
}  // namespace tidemill
