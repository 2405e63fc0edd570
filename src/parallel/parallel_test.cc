#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>
#include <xmmintrin.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "parallel/communicator.h"
#include "parallel/topology.h"
#include "parallel/worker_pool.h"

namespace tidemill {
namespace {

TEST(Lane, SharesCoverEverythingOnceInOrder) {
  for (const int count : {1, 2, 3, 7}) {
    for (const int64_t total : {0, 1, 5, 16, 33, 1000}) {
      for (const int64_t grain : {1, 2, 16}) {
        int64_t next = 0;
        for (int index = 0; index < count; ++index) {
          const Range range = Lane::share_of(index, count, total, grain);
          EXPECT_EQ(range.begin, next);
          EXPECT_TRUE(range.end % grain == 0 || range.end == total);
          next = range.end;
        }
        EXPECT_EQ(next, total);
      }
    }
  }
}

class Pool : public testing::TestWithParam<int> {
 protected:
  WorkerPool pool_{{.num_threads = GetParam()}};
};

TEST_P(Pool, EveryWorkerRunsEverySectionOnce) {
  std::vector<int> runs(static_cast<size_t>(GetParam()), 0);
  for (int section = 0; section < 500; ++section) {
    pool_.run([&](Lane& lane) { ++runs[static_cast<size_t>(lane.index())]; });
  }
  EXPECT_EQ(runs, std::vector<int>(static_cast<size_t>(GetParam()), 500));
}

// Twice in a section and again in the next one: cursors are used anew each time.
TEST_P(Pool, WorkThatIsSharedOutIsDoneOnce) {
  for (const int64_t total : {0, 1, 7, 64, 1000}) {
    for (const PieceSize size :
         {PieceSize{1, 1}, PieceSize{8, 4}, PieceSize{24, 4}, PieceSize{5000, 5000}}) {
      for (const int times : {1, 2, 3}) {
        std::vector<std::atomic<int>> done(static_cast<size_t>(total));
        pool_.run([&](Lane& lane) {
          for (int i = 0; i < times; ++i) {
            const auto share = [&](int owner) {
              return Lane::share_of(owner, lane.count(), total);
            };
            lane.share_out(share, size, [&](Range piece) {
              EXPECT_LE(piece.size(), size.most);
              for (int64_t item = piece.begin; item < piece.end; ++item) {
                ++done[static_cast<size_t>(item)];
              }
            });
            lane.meet();
          }
        });
        for (const std::atomic<int>& count : done) ASSERT_EQ(count, times);
      }
    }
  }
}

TEST_P(Pool, PiecesGetSmallerTowardsTheEndOfAShare) {
  std::vector<std::vector<int64_t>> sizes(static_cast<size_t>(GetParam()));
  pool_.run([&](Lane& lane) {
    // Who has nothing to help with takes its own share in order; each lane's is out of others'
    // reach.
    const auto share = [&](int owner) {
      return owner == lane.index() ? Range{owner * 100, owner * 100 + 50} : Range{0, 0};
    };
    lane.share_out(share, {.most = 24, .least = 4}, [&](Range piece) {
      sizes[static_cast<size_t>(lane.index())].push_back(piece.size());
    });
    lane.meet();
  });
  const std::vector<int64_t> expected =
      GetParam() == 1 ? std::vector<int64_t>{24, 24, 2} : std::vector<int64_t>{24, 12, 4, 4, 4, 2};
  for (const std::vector<int64_t>& of_lane : sizes) EXPECT_EQ(of_lane, expected);
}

// The first lane goes on with its second piece only when the others have done all else: without
// help it would wait for ever.
TEST_P(Pool, WhoIsDoneTakesWhatOthersHaveNotBegun) {
  if (GetParam() == 1) GTEST_SKIP() << "nobody to help";
  constexpr int64_t kEach = 10;
  const int64_t total = GetParam() * kEach;
  std::atomic<int64_t> done{0};
  std::atomic<int64_t> by_first{0};
  pool_.run([&](Lane& lane) {
    const auto share = [&](int owner) { return Lane::share_of(owner, lane.count(), total); };
    while (lane.index() != 0 && by_first == 0) std::this_thread::yield();
    lane.share_out(share, {}, [&](Range) {
      if (lane.index() == 0) {
        ++by_first;
        while (done < total - 1) std::this_thread::yield();
      }
      ++done;
    });
  });
  EXPECT_EQ(done, total);
  EXPECT_EQ(by_first, 1);
}

TEST(Lane, AloneItHasAllPiecesInOrder) {
  Lane lane;
  std::vector<int64_t> sizes;
  int64_t next = 0;
  lane.share_out(
      [](int) {
        return Range{3, 24};
      },
      {.most = 8, .least = 4},
      [&](Range piece) {
        EXPECT_EQ(piece.begin, next == 0 ? 3 : next);
        next = piece.end;
        sizes.push_back(piece.size());
      });
  EXPECT_EQ(next, 24);
  EXPECT_THAT(sizes, testing::ElementsAre(8, 8, 5));
}

TEST_P(Pool, SectionsOfThePresentAndOfAllTakeTurns) {
  std::atomic<int> wrong{0};
  for (int section = 0; section < 500; ++section) {
    std::atomic<int> runs{0};
    pool_.run([&](Lane&) { ++runs; });
    wrong += runs != GetParam();
    std::atomic<int> present{0};
    int lanes = 0;
    pool_.run_present([&](Lane& lane) {
      if (lane.index() == 0) lanes = lane.count();
      ++present;
      lane.meet();
    });
    wrong += present != lanes;
  }
  EXPECT_EQ(wrong, 0);
}

TEST_P(Pool, WorkersHaveNamesForToolsOfTheSystem) {
  std::vector<std::string> names(static_cast<size_t>(GetParam()));
  pool_.run([&](Lane& lane) {
    char name[16] = {};
    pthread_getname_np(pthread_self(), name, sizeof name);
    names[static_cast<size_t>(lane.worker())] = name;
  });
  for (int i = 1; i < GetParam(); ++i) {
    EXPECT_EQ(names[static_cast<size_t>(i)], "worker " + std::to_string(i));
  }
}

TEST_P(Pool, WritesBeforeAMeetingAreSeenAfterIt) {
  const auto count = static_cast<size_t>(GetParam());
  std::vector<int64_t> values(count * 16, 0);  // plain memory, one line each
  std::atomic<int> wrong{0};
  pool_.run([&](Lane& lane) {
    for (int64_t round = 1; round <= 2000; ++round) {
      values[static_cast<size_t>(lane.index()) * 16] = round;
      lane.meet();
      for (size_t i = 0; i < count; ++i) wrong += values[i * 16] != round;
      lane.meet();
    }
  });
  EXPECT_EQ(wrong, 0);
}

TEST_P(Pool, DenormalsAreZeroInsideAndTheCallersSettingComesBack) {
  const unsigned before = _mm_getcsr();
  std::atomic<int> zeros{0};
  volatile float tiny = std::numeric_limits<float>::min();
  pool_.run([&](Lane&) { zeros += (tiny * 0.5f) == 0.0f; });
  EXPECT_EQ(zeros, GetParam());
  EXPECT_EQ(_mm_getcsr(), before);
}

TEST_P(Pool, SectionsOfTwoCallersDoNotMix) {
  int64_t counter = 0;  // not atomic: sections of both callers touch it
  const auto caller = [&] {
    for (int i = 0; i < 300; ++i) {
      pool_.run([&](Lane& lane) {
        if (lane.index() == 0) ++counter;
        lane.meet();
      });
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  EXPECT_EQ(counter, 600);
}

// Three and more workers on two cores: oversubscription must cost time only.
INSTANTIATE_TEST_SUITE_P(Sizes, Pool, testing::Values(1, 2, 3, 5));

std::vector<int> cpus_of_this_thread() {
  cpu_set_t set;
  CPU_ZERO(&set);
  EXPECT_EQ(sched_getaffinity(0, sizeof set, &set), 0);
  std::vector<int> cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.push_back(cpu);
  }
  return cpus;
}

TEST(WorkerPool, KeepsEachWorkerOnItsCoreAndTheCallerWhereItWas) {
  const std::vector<int> cores = usable_cores();
  const std::vector<int> before = cpus_of_this_thread();
  WorkerPool pool({.num_threads = 3});
  std::vector<std::vector<int>> seen(3);
  pool.run([&](Lane& lane) { seen[static_cast<size_t>(lane.index())] = cpus_of_this_thread(); });
  EXPECT_EQ(seen[0], before);
  EXPECT_EQ(seen[1], std::vector<int>{cores[1 % cores.size()]});
  EXPECT_EQ(seen[2], std::vector<int>{cores[2 % cores.size()]});
}

// A thread that never had its core.
double always_more() {
  static std::atomic<double> seconds{0.0};
  return seconds += 10.0;
}

TEST(WorkerPool, WhoIsAwaySitsOutOfSectionsOfThePresent) {
  if (usable_cores().size() < 2) GTEST_SKIP() << "not here: a second core";
  WorkerPool pool({.num_threads = 2, .seconds_waited = always_more});
  std::thread([&] {
    const auto run_until_one_is_left = [&](int most) {
      int lanes = 2;
      for (int section = 0; section < most && lanes == 2; ++section) {
        pool.run_present([&](Lane& lane) {
          if (lane.index() == 0) lanes = lane.count();
          if (lane.worker() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
          lane.meet();
        });
      }
      return lanes;
    };
    EXPECT_EQ(run_until_one_is_left(400), 2) << "a caller that has no core of its own stays";
    pool.pin_caller();
    EXPECT_EQ(run_until_one_is_left(3000), 1);
    std::atomic<int> all{0};
    pool.run([&](Lane&) { ++all; });  // asks for everybody
    EXPECT_EQ(all, 2);
    EXPECT_EQ(run_until_one_is_left(1), 1);
  }).join();
}

TEST(WorkerPool, WhoSharesCoresWithOtherWorkersNeverSitsOut) {
  WorkerPool pool(
      {.num_threads = static_cast<int>(usable_cores().size()) + 1, .seconds_waited = always_more});
  std::thread([&] {
    pool.pin_caller();
    for (int section = 0; section < 400; ++section) {
      pool.run_present([&](Lane& lane) {
        if (lane.index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
        EXPECT_EQ(lane.count(), pool.num_threads());
        lane.meet();
      });
    }
  }).join();
}

// What takes the caller's core takes it from nobody: the caller goes to another.
TEST(WorkerPool, ACallerWhoseCoreIsTakenMovesToAnother) {
  const std::vector<int> cores = usable_cores();
  if (cores.size() < 2) GTEST_SKIP() << "not here: a second core";
  WorkerPool pool({.num_threads = 2, .seconds_waited = always_more});
  std::thread([&] {
    pool.pin_caller();
    int lanes = 2;
    for (int section = 0; section < 3000 && lanes == 2; ++section) {
      pool.run_present([&](Lane& lane) {
        if (lane.index() == 0) {
          lanes = lane.count();
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
        }
        lane.meet();
      });
    }
    EXPECT_EQ(lanes, 1);
    EXPECT_EQ(cpus_of_this_thread(), std::vector<int>{cores[1]});
    std::vector<int> of_other;
    pool.run([&](Lane& lane) {
      if (lane.index() == 1) of_other = cpus_of_this_thread();
    });
    EXPECT_EQ(of_other, std::vector<int>{cores[0]});
  }).join();
}

TEST(WorkerPool, KeepsACallerThatAsksOnTheFirstCore) {
  WorkerPool pinned({.num_threads = 1});
  WorkerPool loose({.num_threads = 1, .pin = false});
  const std::vector<int> before = cpus_of_this_thread();
  std::thread([&] {
    loose.pin_caller();
    EXPECT_EQ(cpus_of_this_thread(), before);
    pinned.pin_caller();
    EXPECT_EQ(cpus_of_this_thread(), std::vector<int>{usable_cores().front()});
  }).join();
  EXPECT_EQ(cpus_of_this_thread(), before);
}

TEST(WorkerPoolDeathTest, SectionThatTurnsDenormalsOnIsFoundOutByTheNext) {
  testing::GTEST_FLAG(death_test_style) = "threadsafe";
  const auto two_sections = [] {
    WorkerPool pool({.num_threads = 2, .pin = false});
    pool.run([](Lane&) { _mm_setcsr(_mm_getcsr() & ~0x40u); });
    pool.run([](Lane&) {});
  };
  EXPECT_DEATH(two_sections(), "worker 1 would compute with denormals");
}

// Lets this process grow by a little only, as a container does.
class MemoryLimit {
 public:
  explicit MemoryLimit(size_t more) {
    size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
    const rlimit limit{.rlim_cur = pages * 4096 + more, .rlim_max = before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
  }
  ~MemoryLimit() { EXPECT_EQ(setrlimit(RLIMIT_AS, &before_), 0); }

 private:
  rlimit before_{};
};

TEST(WorkerPool, ThatCannotStartItsThreadsSaysSoAndStopsThoseItHas) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "AddressSanitizer ends the process when it cannot have memory of its own";
#endif
  const MemoryLimit limit(size_t{64} << 20);  // stacks of a few threads
  try {
    WorkerPool({.num_threads = 1000, .pin = false});
    FAIL() << "a thousand stacks in 64 MiB";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), testing::ContainsRegex("^([2-9]|[1-9][0-9]+) of 1000 workers"));
    EXPECT_THAT(error.what(), testing::HasSubstr("Lower threads"));
  }
}

TEST(Communicator, OneRanksSumIsItsOwn) {
  std::vector<float> values = {1.0f, 2.0f};
  Communicator communicator;
  WorkerPool pool({.num_threads = 2});
  pool.run([&](Lane& lane) { communicator.all_reduce_sum(lane, values.data(), 2); });
  EXPECT_EQ(values, (std::vector<float>{1.0f, 2.0f}));
}

}  // namespace
}  // namespace tidemill
