// Replays what a fuzz target keeps: its seeds, the files of the folders that are named, and some
// damaged copies of each. It needs no fuzzer, so every build runs it as a test.
//
//   replay_NAME FOLDER...           fails at the first input that breaks a promise or a limit
//   replay_NAME --seeds FOLDER      writes the seeds there as files, for libFuzzer to begin with
//
// An input may take a second of processor time and the process 512 MiB (robustness.md 6.2). What
// fails is kept as a file, and its path is printed.
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>

#include "base/digest.h"
#include "base/fuzz_target.h"
#include "base/text_file.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int kDamagedCopies = 48;
constexpr long kMaxResidentKib = 512 << 10;
#ifdef TIDEMILL_FUZZ_SLOW  // sanitizers
constexpr int kMaxSeconds = 10;
#else
constexpr int kMaxSeconds = 1;
#endif

std::string current;  // for the signal handler: what is being tried
std::string kept;     // and where it is kept if it fails

extern "C" void keep_and_say(int signal_number) {
  const char* reason = signal_number == SIGPROF ? "took too long" : "failed";
  if (FILE* file = std::fopen(kept.c_str(), "wb")) {
    std::fwrite(current.data(), 1, current.size(), file);
    std::fclose(file);
  }
  std::fprintf(stderr, "an input %s (signal %d). It lies in %s\n", reason, signal_number,
               kept.c_str());
  std::signal(signal_number, SIG_DFL);
  if (signal_number == SIGPROF) std::_Exit(1);
  std::raise(signal_number);
}

void set_time_limit(int seconds) {
  const itimerval limit{.it_interval = {}, .it_value = {.tv_sec = seconds, .tv_usec = 0}};
  ::setitimer(ITIMER_PROF, &limit, nullptr);
}

void try_one(std::string_view input) {
  current = input;
  kept = format("{}/finding-{}", fs::current_path().string(), sha256_of(input).substr(0, 16));
  // Exactly as much memory as there is input, so that a sanitizer sees the first byte too far.
  const std::unique_ptr<char[]> exact(new char[input.size()]);
  std::memcpy(exact.get(), input.data(), input.size());
  set_time_limit(kMaxSeconds);
  fuzz_one({exact.get(), input.size()});
  set_time_limit(0);
#ifndef TIDEMILL_FUZZ_SLOW
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  CHECK(used.ru_maxrss < kMaxResidentKib, "{} KiB of memory", used.ru_maxrss);
#endif
}

std::string damaged(std::string text, std::mt19937& random) {
  const auto below = [&](size_t limit) { return static_cast<size_t>(random()) % limit; };
  constexpr char kBorders[] = {'\x00', '\x01', '\x7f', '\x80', '\xff', '"', '[', '9', '-', '\n'};
  const char border = kBorders[below(std::size(kBorders))];
  const size_t at = below(text.size() + 1);
  switch (below(5)) {
    case 0:
      if (at < text.size()) text[at] ^= static_cast<char>(1 << below(8));
      break;
    case 1:
      if (at < text.size()) text[at] = border;
      break;
    case 2:
      text.resize(at);
      break;
    case 3:
      text.insert(at, 1 + below(9), border);
      break;
    default:
      text.insert(at, text.substr(at, 1 + below(32)));
      break;
  }
  return text;
}

std::vector<std::string> inputs_of(int count, char** folders) {
  std::vector<std::string> inputs = fuzz_seeds();
  std::vector<fs::path> files;
  for (int i = 0; i < count; ++i) {
    if (!fs::exists(folders[i])) continue;  // a target whose seeds are all generated
    for (const auto& entry : fs::directory_iterator(folders[i])) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files) inputs.push_back(read_text_file(file));
  return inputs;
}

void write_seeds(const fs::path& folder) {
  fs::create_directories(folder);
  for (const std::string& seed : fuzz_seeds()) {
    std::ofstream(folder / ("seed-" + sha256_of(seed).substr(0, 16)), std::ios::binary) << seed;
  }
}

int replay(int count, char** folders) {
  for (const int number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGPROF}) {
    std::signal(number, keep_and_say);
  }
  const std::vector<std::string> inputs = inputs_of(count, folders);
  CHECK(!inputs.empty(), "a target without seeds tries nothing");
  std::mt19937 random(20260101);
  for (const std::string& input : inputs) {
    try_one(input);
    for (int i = 0; i < kDamagedCopies; ++i) try_one(damaged(input, random));
  }
  std::printf("%zu inputs, each with %d damaged copies\n", inputs.size(), kDamagedCopies);
  return 0;
}

}  // namespace
}  // namespace tidemill

int main(int argc, char** argv) {
  if (argc == 3 && std::string_view(argv[1]) == "--seeds") {
    tidemill::write_seeds(argv[2]);
    return 0;
  }
  return tidemill::replay(argc - 1, argv + 1);
}
