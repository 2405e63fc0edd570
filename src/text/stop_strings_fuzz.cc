// Stop strings: however the text is cut, what comes out is what a search of the whole text gives,
// and nothing is held back that could not become a stop string.
#include <optional>

#include "base/fuzz_target.h"
#include "text/stop_strings.h"

namespace tidemill {
namespace {

struct Match {
  size_t begin = 0;
  size_t end = 0;
};

// The match that ends first, then the longest: by looking at every place for every string.
std::optional<Match> first_match(std::string_view text, const std::vector<std::string>& stops) {
  std::optional<Match> first;
  for (const std::string& stop : stops) {
    for (size_t begin = 0; begin + stop.size() <= text.size(); ++begin) {
      if (text.substr(begin, stop.size()) != stop) continue;
      const Match match{begin, begin + stop.size()};
      const bool better = !first || match.end < first->end ||
                          (match.end == first->end && match.begin < first->begin);
      if (better) first = match;
    }
  }
  return first;
}

size_t longest_of(const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const std::string& stop : stops) longest = std::max(longest, stop.size());
  return longest;
}

}  // namespace

// Few letters, so that strings meet: the input's bytes choose among three.
void fuzz_one(std::string_view input) {
  FuzzInput in(input);
  const bool keep = in.byte() % 2 == 1;
  std::vector<std::string> stops;
  for (int count = in.byte() % 5; count > 0; --count) {
    std::string stop;
    for (int length = in.byte() % 6; length >= 0; --length) {
      stop += static_cast<char>('a' + in.byte() % 3);
    }
    stops.push_back(stop);
  }
  StopStrings matcher(stops, keep);
  std::string text;
  std::string out;
  while (!in.empty()) {
    std::string piece;
    for (int length = in.byte() % 8; length > 0 && !in.empty(); --length) {
      piece += static_cast<char>('a' + in.byte() % 3);
    }
    text += piece;
    out += matcher.push(piece);
    if (matcher.matched()) continue;
    const size_t longest = longest_of(stops);
    CHECK(out.size() + (longest > 0 ? longest - 1 : 0) >= text.size(), "{} of {} bytes are held",
          text.size() - out.size(), text.size());
  }
  out += matcher.finish();
  const auto match = first_match(text, stops);
  CHECK(matcher.matched().has_value() == match.has_value(), "a search of the whole disagrees");
  if (!match) {
    CHECK(out == text, "text is lost");
    return;
  }
  CHECK(*matcher.matched() == text.substr(match->begin, match->end - match->begin), "another one");
  CHECK(out == text.substr(0, keep ? match->end : match->begin), "cut elsewhere");
}

std::vector<std::string> fuzz_seeds() {
  return {std::string("\x00\x01\x02"
                      "aab"
                      "\x04"
                      "abab"
                      "\x03"
                      "aab"
                      "\x05"
                      "bcaab",
                      19),
          std::string("\x01\x03\x00"
                      "a"
                      "\x01"
                      "ab"
                      "\x05"
                      "abcabc"
                      "\x07"
                      "bcabcab",
                      21),
          std::string("\x00\x00\x07"
                      "abcabca",
                      10),
          "\x01\x04"};
}

}  // namespace tidemill
