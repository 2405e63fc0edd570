#include "text/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace tidemill {
namespace {

TEST(StopStrings, TextThatMightStillBecomeAStopStringIsHeldBack) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.push("the E"), "the ");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("ergy"), "ENergy");
  EXPECT_EQ(stop.push("EN"), "");
  EXPECT_EQ(stop.finish(), "EN");
}

TEST(StopStrings, TheMatchThatEndsFirstWinsThenTheLongest) {
  StopStrings stop({"bcd", "abc", "c"});
  EXPECT_EQ(stop.push("xabcd"), "x");
  EXPECT_EQ(stop.matched(), "abc");
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, AKeptStopStringEndsTheText) {
  StopStrings stop({"."}, true);
  EXPECT_EQ(stop.push("a.b"), "a.");
}

// What StopStrings must do, on the whole text at once.
std::string cut(const std::string& text, const std::vector<std::string>& stops) {
  size_t best_end = std::string::npos, best_begin = text.size();
  for (const std::string& stop : stops) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best_begin)) {
      best_end = end;
      best_begin = begin;
    }
  }
  return text.substr(0, best_begin);
}

TEST(StopStrings, K_3_PiecesGiveWhatASearchOfTheWholeTextGives) {
  std::mt19937_64 random(4);
  const auto random_text = [&](size_t length) {
    std::string text;
    for (; length > 0; --length) text += static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = random() % 3 + 1; i > 0; --i) stops.push_back(random_text(random() % 4 + 1));
    const std::string text = random_text(random() % 12);
    StopStrings stop(stops);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min<size_t>(random() % 4 + 1, text.size() - at);
      out += stop.push(text.substr(at, length));
      at += length;
    }
    out += stop.finish();
    ASSERT_EQ(out, cut(text, stops)) << text;
  }
}

}  // namespace
}  // namespace tidemill
