#include "scheduler/simulation/scheduler_simulation.h"

#include <gtest/gtest.h>

#include <array>

#include "scheduler/simulation/seed_runs.h"

namespace tidemill {
namespace {

constexpr const char* kReplay = "Simulation.ASeedOfTheEnvironment";

SeedRuns<SimulationReport> runs() {
  return {kReplay, [](uint64_t seed) { return simulate_scheduler(seed); }};
}

// Events of one test: a part of all.
int64_t events_of(double part) {
  return static_cast<int64_t>(part * static_cast<double>(runs().all_events(/*usual=*/1'000'000)));
}

SimulationReport run_many(SimulationFocus focus, int64_t events) {
  return runs().run_many(events, seed_of(focus, 0));
}

// Seeds that have found something, for good, with what it was. None so far.
constexpr std::array<uint64_t, 0> kFailedOnce = {};

TEST(Simulation, SeedsThatFailedOnceDoNotFailAgain) {
  for (const uint64_t seed : kFailedOnce) runs().run(seed);
}

TEST(Simulation, ASeedOfTheEnvironment) { runs().run_that_of_environment(); }

// I1 to I15, admission in order and filled places, on all that a seed can bring together. That the
// traffic goes where it should is said in parts of its events.
TEST(Simulation, Q_9_I1_I2_I3_I5_I6_I8_I9_I10_I11_I12_I13_I14_I15_EveryInvariantHolds) {
  const int64_t events = events_of(0.5);
  const SimulationReport sum = run_many(SimulationFocus::kEverything, events);
  EXPECT_GT(sum.answers, events / 100);
  EXPECT_GT(sum.failed, events / 2000);
  EXPECT_GT(sum.refused, events / 1000);
  for (const int64_t cancelled : sum.cancelled) EXPECT_GT(cancelled, events / 10000);
  EXPECT_GT(sum.paused, events / 100);
  EXPECT_GT(sum.dropped_tokens, events / 5000);
  EXPECT_GT(sum.accepted_drafts, events / 1000);
  EXPECT_GT(sum.preemptions, events / 2000);
  EXPECT_GT(sum.hit_tokens, events / 10);
  EXPECT_GT(sum.scored_prompts, events / 1000);
  EXPECT_GT(sum.scored_in_parts, events / 100);
  EXPECT_GT(sum.scored_later, events / 10000);
  EXPECT_GT(sum.timed_chunks, events / 200);
  EXPECT_GT(sum.least_chunks, events / 2000);
  EXPECT_GT(sum.overtakings, events / 2000);
  EXPECT_GT(sum.audits, events / 20);
}

TEST(Simulation, Q_5_WhoeverIsCancelledLeavesNoBlockBehind) {
  const int64_t events = events_of(0.25);
  const SimulationReport sum = run_many(SimulationFocus::kCancels, events);
  EXPECT_GT(sum.cancelled[0], events / 20);
  EXPECT_GT(sum.cancelled[1], events / 20);
  EXPECT_GT(sum.cancelled[2], events / 2000);
}

TEST(Simulation, Q_7_WhoIsPreemptedSaysWhatItWouldHaveSaid) {
  const int64_t events = events_of(0.15);
  const SimulationReport sum = run_many(SimulationFocus::kTightPools, events);
  EXPECT_GT(sum.preemptions, events / 500);
  EXPECT_GT(sum.answers, events / 100);
}

TEST(Simulation, I_2_WhereHashesOfPrefixesCollideNobodyReadsAnotherOnes) {
  const int64_t events = events_of(0.1);
  const SimulationReport sum = run_many(SimulationFocus::kCollisions, events);
  EXPECT_GT(sum.hit_tokens, events / 10);
  EXPECT_GT(sum.answers, events / 100);
}

TEST(Simulation, Q_9_TextsThatDraftThemselvesSayWhatTheyWouldHaveSaid) {
  const int64_t events = events_of(0.2);
  const SimulationReport sum = run_many(SimulationFocus::kOwnDrafts, events);
  EXPECT_GT(sum.accepted_drafts, events / 10);
  EXPECT_GT(sum.refused_drafts, events / 50);
  EXPECT_GT(sum.answers, events / 100);
  EXPECT_GT(sum.preemptions, events / 5000);
  EXPECT_GT(sum.dropped_tokens, events / 1000);
}

TEST(Simulation, Q_9_TextsThatAModelDraftsSayWhatTheyWouldHaveSaid) {
  const int64_t events = events_of(0.2);
  const SimulationReport sum = run_many(SimulationFocus::kDraftModel, events);
  EXPECT_GT(sum.model_drafts, events / 20);
  EXPECT_GT(sum.catching_up, events / 5000);
  EXPECT_GT(sum.accepted_drafts, events / 20);
  EXPECT_GT(sum.refused_drafts, events / 50);
  EXPECT_GT(sum.answers, events / 100);
  EXPECT_GT(sum.preemptions, events / 5000);
  EXPECT_GT(sum.hit_tokens, events / 20);
}

// The same in every build type: under sanitizers this is compared with the same number. Whoever
// changes what the scheduler decides, or what the simulation draws, changes the number.
TEST(Simulation, ASeedDecidesEverything) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(runs().run(seed).trace, runs().run(seed).trace) << "seed " << seed;
  }
  const SimulationReport sum = run_many(SimulationFocus::kEverything, 100'000);
  EXPECT_EQ(sum.trace, 14595792291461575038u);
}

// The negative controls: each damage is found, whichever seed does it.
class BrokenOnPurpose : public testing::TestWithParam<SimulationFault> {};

TEST_P(BrokenOnPurpose, IsFound) {
  int64_t found = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    try {
      simulate_scheduler(seed, GetParam());
    } catch (const SimulationFailure&) {
      ++found;
    }
  }
  EXPECT_GE(found, 18) << "of 20; in a few runs there may be no moment for it";
}
INSTANTIATE_TEST_SUITE_P(Damage, BrokenOnPurpose,
                         testing::Values(SimulationFault::kStrayWrite, SimulationFault::kLostToken,
                                         SimulationFault::kChangedToken,
                                         SimulationFault::kLostScores));

TEST(BrokenOnPurposeDeathTest, ABlockThatLeaksIsCountedAndTheSeedIsSaidOnTheWayOut) {
  const auto die = [] {
    const SeedInScope scope(1, kReplay);
    simulate_scheduler(1, SimulationFault::kLeakedBlock);
  };
  EXPECT_DEATH(die(), "holders(.|\n)*TIDEMILL_SIMULATION_SEED=1 ");
}

}  // namespace
}  // namespace tidemill
