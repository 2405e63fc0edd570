#include "scheduler/simulation/seeds.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

// Of the sanitizers' runtime, where there is one.
extern "C" [[gnu::weak]] void __sanitizer_set_death_callback(void (*callback)());

namespace tidemill {
namespace {

// Prepared beforehand: a handler may not allocate.
char last_words[512];
size_t last_words_size = 0;

void say_last_words() {
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, last_words, last_words_size);
  last_words_size = 0;
}

void on_abort(int) {
  say_last_words();
  std::signal(SIGABRT, SIG_DFL);
}

}  // namespace

std::optional<uint64_t> simulation_number(const char* name) {
  const char* text = std::getenv(name);
  uint64_t number = 0;
  if (text == nullptr) return std::nullopt;
  const char* end = text + std::strlen(text);
  const auto [rest, error] = std::from_chars(text, end, number);
  if (error != std::errc() || rest != end || rest == text) return std::nullopt;
  return number;
}

SeedInScope::SeedInScope(uint64_t seed, const char* test) {
  const int size = std::snprintf(
      last_words, sizeof(last_words),
      "\nThe simulation failed with seed %llu. Again: TIDEMILL_SIMULATION_SEED=%llu and "
      "--gtest_filter=%s\nWhen it is fixed, add the seed to kFailedOnce.\n",
      static_cast<unsigned long long>(seed), static_cast<unsigned long long>(seed), test);
  last_words_size = std::min(static_cast<size_t>(size), sizeof(last_words) - 1);
  std::signal(SIGABRT, &on_abort);
  if (__sanitizer_set_death_callback != nullptr) __sanitizer_set_death_callback(&say_last_words);
}

const char* SeedInScope::words() const { return last_words; }

SeedInScope::~SeedInScope() {
  std::signal(SIGABRT, SIG_DFL);
  last_words_size = 0;
}

}  // namespace tidemill
