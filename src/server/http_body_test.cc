#include "server/http_body.h"

#include <gtest/gtest.h>

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

TEST(HttpBody, H_4_TooManyChunksAreRefused) {
  const auto chunks = [](int count) {
    std::string bytes;
    for (int i = 0; i < count; ++i) bytes += "1\r\n \r\n";
    return bytes + "0\r\n\r\n";
  };
  EXPECT_EQ(after(kChunked, chunks(65'535)), State::kDone);  // the last one counts, too
  EXPECT_EQ(after(kChunked, chunks(65'536)), State::kMalformed);
}

}  // namespace
}  // namespace tidemill
