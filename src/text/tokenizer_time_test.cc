// How long hostile texts take to tokenise (robustness.md K-1): processor time, and a few tries, so
// that a busy machine does not decide.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <random>
#include <span>
#include <thread>

#include "base/utf8.h"
#include "text/test_files.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer.h"

#ifndef TIDEMILL_NO_TEXT

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMebibyte = 1 << 20;
// Processor time on a machine that is shared by more than it has cores for is up to twice as long.
double max_seconds() {
  double load = 0.0;
  const bool known = ::getloadavg(&load, 1) == 1;
  return known && load > std::thread::hardware_concurrency() ? 2.0 : 1.0;
}
// Twice the text takes twice the time, a fifth more at most, and what neighbours of this process do
// to its caches; quadratic would be four times.
constexpr double kMaxGrowth = 2.0 * 1.2 * 1.25;
constexpr double kNoiseSeconds = 0.02;
constexpr int kTries = 5;

std::string repeated(std::string_view text) {
  std::string out;
  while (out.size() + text.size() <= kMebibyte) out += text;
  return out;
}

std::string random_letters() {
  std::mt19937 random(7);
  std::string out(kMebibyte, ' ');
  for (char& letter : out) letter = static_cast<char>('a' + random() % 26);
  return out;
}

std::string combining_marks() {
  std::mt19937 random(8);
  std::string out = "e";
  while (out.size() + 2 <= kMebibyte) {
    append_utf8(&out, 0x300 + static_cast<uint32_t>(random() % 0x70));
  }
  return out;
}

struct HostileText {
  const char* name;
  std::string text;
};

constexpr size_t kBasicTexts = 5;  // those that the rule names

std::vector<HostileText> hostile_texts() {
  return {{"one letter", repeated("a")},
          {"blanks", repeated(" ")},
          {"punctuation", repeated("!?.,;:'\"()[]{}<>/\\|@#$%^&*-_=+~`")},
          {"random letters", random_letters()},
          {"combining marks in any order", combining_marks()},
          {"one digit", repeated("7")},
          {"line feeds", repeated("\n")},
          {"tabs and blanks", repeated("\t ")},
          {"exclamation marks", repeated("!")},
          {"apostrophes", repeated("'s'")},
          {"one combining mark", repeated("\u0301")},
          {"emoji that are joined", repeated("\U0001f468\u200d")},
          {"words of one letter", repeated("a ")},
          {"the begin of a control token", repeated("<|")},
          {"Hangul that composes", repeated("\u1100\u1161\u11a8")}};
}

// A character is not cut.
std::string_view half_of(std::string_view text) {
  size_t end = text.size() / 2;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end);
}

double seconds_of(const Tokenizer& tokenizer, std::string_view text) {
  const auto now = [] {
    timespec time{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
  };
  const double begin = now();
  EXPECT_TRUE(tokenizer.encode(text, {}));
  return now() - begin;
}

void expect_time_in_proportion(const Tokenizer& tokenizer, std::span<const HostileText> texts) {
  for (const HostileText& hostile : texts) {
    double whole = 0.0;
    double half = 0.0;
    for (int tries = 0; tries < kTries; ++tries) {
      half = seconds_of(tokenizer, half_of(hostile.text));
      whole = seconds_of(tokenizer, hostile.text);
      if (whole < max_seconds() && whole < kMaxGrowth * half + kNoiseSeconds) break;
    }
    EXPECT_LT(whole, max_seconds()) << hostile.name;
    EXPECT_LT(whole, kMaxGrowth * half + kNoiseSeconds) << hostile.name << ": half takes " << half;
  }
}

#if defined(__SANITIZE_ADDRESS__)
#define SKIP_UNDER_SANITIZERS() GTEST_SKIP() << "sanitizers take several times as long"
#else
#define SKIP_UNDER_SANITIZERS() static_cast<void>(0)
#endif

TEST(TokenizerTime, K_1_OfSmallTokenizersGrowsInProportion) {
  SKIP_UNDER_SANITIZERS();
  const std::vector<HostileText> texts = hostile_texts();
  for (const std::string& json :
       {byte_tokenizer(), sentencepiece_tokenizer(), metaspace_tokenizer()}) {
    expect_time_in_proportion(Tokenizer(json), std::span(texts).first(kBasicTexts));
  }
}

TEST(TokenizerTime, K_1_OfSmolLM2GrowsInProportion) {
  SKIP_UNDER_SANITIZERS();
  const fs::path file = models_folder() / "hf-f32/tokenizer.json";
  SKIP_WITHOUT(file);
  expect_time_in_proportion(Tokenizer(read_file(file)), hostile_texts());
}

}  // namespace
}  // namespace tidemill

#endif
