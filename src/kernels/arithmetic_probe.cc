#include "kernels/arithmetic_probe.h"

#include <time.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <vector>

namespace tidemill {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kFirstRounds = 64;
constexpr int64_t kMostRounds = int64_t{1} << 40;  // a clock that stands still ends the search
constexpr double kEnough = 0.5;                    // of the time asked for, at least

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

double thread_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

}  // namespace

ArithmeticProbe::ArithmeticProbe(const Kernels& kernels, WorkerPool& workers, double seconds)
    : kernels_(kernels), workers_(workers), seconds_(seconds) {}

// On this thread alone, the shortest of three: whatever disturbs one run would leave too few rounds
// for all that follow.
int64_t ArithmeticProbe::find_rounds(Numbers numbers) const {
  for (int64_t rounds = kFirstRounds; rounds < kMostRounds; rounds *= 4) {
    double shortest = seconds_;
    for (int run = 0; run < 3; ++run) {
      const auto begin = Clock::now();
      kernels_.multiply_peak(numbers, rounds);
      shortest = std::min(shortest, seconds_since(begin));
    }
    if (shortest >= kEnough * seconds_) return rounds;
  }
  return kMostRounds;
}

double ArithmeticProbe::measure(Numbers numbers) {
  int64_t& rounds = rounds_[static_cast<size_t>(numbers)];
  if (rounds == 0) rounds = find_rounds(numbers);
  std::atomic<int64_t> operations{0};
  double seconds = 0.0;
  std::vector<double> shares(static_cast<size_t>(workers_.num_threads()));
  workers_.run([&](Lane& lane) {
    lane.meet();  // waiting for somebody else's section is not multiplying
    const auto begin = Clock::now();
    const double cpu_begin = thread_cpu_seconds();
    operations += kernels_.multiply_peak(numbers, rounds);
    const double cpu = thread_cpu_seconds() - cpu_begin;
    shares[static_cast<size_t>(lane.index())] = cpu / seconds_since(begin);
    lane.meet();  // nor is waiting for our core while the next section has it
    if (lane.index() == 0) seconds = seconds_since(begin);
  });
  cpu_share_ = *std::min_element(shares.begin(), shares.end());
  return static_cast<double>(operations.load()) / seconds;
}

}  // namespace tidemill
