#include "parallel/core_time.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <thread>

namespace tidemill {
namespace {

TEST(CoreTime, OfTheWorkerThatWaitedLongestWhatOwnThreadsRanIsNoStrangers) {
  const std::array<CoreTime, 2> workers{
      {{.ran = 0.10, .waited = 0.01}, {.ran = 0.06, .waited = 0.05}}};
  EXPECT_NEAR(kept_from_core(workers, 0.16), 0.05, 1e-9);
  EXPECT_NEAR(kept_from_core(workers, 0.18), 0.03, 1e-9);
  EXPECT_EQ(kept_from_core(workers, 0.30), 0.0);
  EXPECT_NEAR(kept_from_core(workers, 0.15), 0.05, 1e-9) << "clocks are read one after another";
  EXPECT_EQ(kept_from_core({}, 0.0), 0.0);
}

// Two threads that both want one core.
TEST(CoreTime, AThreadThatSharesItsCoreWaits) {
  if (::access("/proc/thread-self/schedstat", R_OK) != 0) GTEST_SKIP() << "no schedstat";
  CoreClock clock;
  std::atomic<bool> enough{false};
  std::thread sharing([&] {
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    ASSERT_EQ(sched_setaffinity(0, sizeof(one), &one), 0);
    const CoreTime begin = clock.read();
    std::thread stranger([&] {  // inherits the core
      while (!enough.load()) {
      }
    });
    CoreTime now = clock.read();
    while (now.waited - begin.waited < 1e-3) now = clock.read();
    enough = true;
    stranger.join();
    EXPECT_GT(now.ran, begin.ran);
  });
  sharing.join();
}

TEST(CoreTime, AClockThatMovesGoesOn) {
  CoreClock clock;
  const CoreTime before = clock.read();
  CoreClock moved(std::move(clock));
  EXPECT_GE(moved.read().waited, before.waited);
  EXPECT_GE(moved.read().ran, before.ran);
  EXPECT_GE(process_cpu_seconds(), before.ran);
}

}  // namespace
}  // namespace tidemill
