#include "load/event_stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Everything that `bytes` hold, when they come in pieces that end at the given places.
template <typename Reader>
std::vector<std::string> read(std::string_view bytes, std::initializer_list<size_t> cuts) {
  Reader reader;
  std::vector<std::string> found;
  size_t begin = 0;
  const auto push = [&](size_t end) {
    for (std::string& one : reader.push(bytes.substr(begin, end - begin))) {
      found.push_back(std::move(one));
    }
    begin = end;
  };
  for (const size_t cut : cuts) push(cut);
  push(bytes.size());
  return found;
}

constexpr std::string_view kStream =
    "\xEF\xBB\xBF: a comment\r\n\r\ndata: one\r\n\r\ndata:two\ndata: lines\n\nid: 7\nevent: x\n"
    "data\n\nretry: 5\n\ndata:  blank\r\rdata: \xC3\xA9\xF0\x9F\x98\x80\n\ndata: never ended\n";

TEST(EventStream, EventsAreTheSameWhereverTheBytesAreCut) {
  const auto expected = ElementsAre("one", "two\nlines", "", " blank", "\xC3\xA9\xF0\x9F\x98\x80");
  EXPECT_THAT(read<EventStreamReader>(kStream, {}), expected);
  for (size_t first = 0; first <= kStream.size(); ++first) {
    EXPECT_THAT(read<EventStreamReader>(kStream, {first}), expected) << first;
    for (size_t second = first; second <= kStream.size(); ++second) {
      EXPECT_THAT(read<EventStreamReader>(kStream, {first, second}), expected)
          << first << ", " << second;
    }
  }
}

TEST(EventStream, ByteAfterByteIsTheWhole) {
  EventStreamReader reader;
  std::vector<std::string> events;
  for (const char byte : kStream) {
    for (std::string& event : reader.push({&byte, 1})) events.push_back(std::move(event));
  }
  EXPECT_EQ(events, read<EventStreamReader>(kStream, {}));
}

TEST(EventStream, OnlyDataMakesAnEvent) {
  EXPECT_THAT(read<EventStreamReader>("event: ping\n\n: keep\n\ndatax: 1\n\n", {}), IsEmpty());
}

TEST(EventStream, AnEndlessEventIsNoticed) {
  EventStreamReader reader;
  const std::string piece = "data: " + std::string(1 << 20, 'x');
  for (int i = 0; i < 16; ++i) EXPECT_THAT(reader.push(piece), IsEmpty());
  EXPECT_TRUE(reader.overlong());
}

TEST(Lines, LinesAreTheSameWhereverTheBytesAreCut) {
  const std::string_view bytes = "a\nbb\r\nc\r\r\nd\n\nrest";
  const auto expected = ElementsAre("a", "bb", "c", "", "d", "");
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EXPECT_THAT(read<LineReader>(bytes, {cut}), expected) << cut;
  }
  LineReader reader;
  reader.push(bytes);
  EXPECT_EQ(reader.take_rest(), "rest");
  EXPECT_EQ(reader.take_rest(), "");
}

}  // namespace
}  // namespace tidemill
