// For tests: a simulation run by seeds, those of a test or the one of the environment (seeds.h).
// Its report has events, steps, trace and add().
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <cstdio>
#include <functional>
#include <utility>

#include "scheduler/simulation/scheduler_simulation.h"
#include "scheduler/simulation/seeds.h"

namespace tidemill {

template <typename Report>
class SeedRuns {
 public:
  // `replay` is the test that runs the seed of the environment.
  SeedRuns(const char* replay, std::function<Report(uint64_t)> simulate)
      : replay_(replay), simulate_(std::move(simulate)) {}

  // What the run finds fails the test, and says how to run it again.
  Report run(uint64_t seed) const {
    const SeedInScope scope(seed, replay_);
    try {
      return simulate_(seed);
    } catch (const SimulationFailure& failure) {
      ADD_FAILURE() << failure.what() << scope.words();
      return {};
    }
  }

  // Seeds from `first` on until there are so many events.
  Report run_many(int64_t events, uint64_t first = 0) const {
    Report sum;
    for (uint64_t seed = first; sum.events < events && !testing::Test::HasFailure(); ++seed) {
      sum.add(run(seed));
    }
    return sum;
  }

  // Skips the test where the environment names none.
  void run_that_of_environment() const {
    const auto seed = simulation_number("TIDEMILL_SIMULATION_SEED");
    if (!seed) GTEST_SKIP() << "TIDEMILL_SIMULATION_SEED names none";
    const Report report = run(*seed);
    std::printf("seed %llu: %lld events, %lld steps, trace %016llx\n",
                static_cast<unsigned long long>(*seed), static_cast<long long>(report.events),
                static_cast<long long>(report.steps),
                static_cast<unsigned long long>(report.trace));
  }

  // How many events the tests of a simulation have together: as many as the environment asks for,
  // or so many.
  static int64_t all_events(int64_t usual) {
    const auto asked = simulation_number("TIDEMILL_SIMULATION_EVENTS");
    return asked ? static_cast<int64_t>(*asked) : usual;
  }

 private:
  const char* replay_;
  const std::function<Report(uint64_t)> simulate_;
};

}  // namespace tidemill
