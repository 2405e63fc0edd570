#include "parallel/attendance.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <set>
#include <vector>

namespace tidemill {
namespace {

using testing::ElementsAre;

// Sections of 20 ms, in turn, on cores of which strangers use some.
class Machine {
 public:
  explicit Machine(int num_workers) : attendance_(num_workers) {}

  std::set<int> taken;        // cores
  double lost = 0.7;          // share of a section in which the others wait for such a one
  std::optional<int> serial;  // a worker that has more to do than the others
  std::vector<Attendance::Change> changes;
  int64_t num_measured = 0;  // sections in which waits were measured

  void run(double seconds) {
    for (const double end = now_ + seconds; now_ < end;) section();
  }
  const std::vector<int>& present() const { return attendance_.present(); }
  int core_of(int worker) const { return attendance_.core_of(worker); }

 private:
  void section() {
    const bool measures = attendance_.must_measure_waits();
    num_measured += measures ? 1 : 0;
    std::vector<Attendance::OfLane> lanes(present().size());
    for (size_t lane = 0; lane < lanes.size(); ++lane) {
      const int worker = present()[lane];
      const bool is_taken = taken.count(attendance_.core_of(worker)) > 0;
      if (is_taken || serial == worker) lanes[lane].seconds_lost = lost * kSection;
      if (is_taken && measures) lanes[lane].seconds_waited = 0.9 * lost * kSection;
    }
    const auto change = attendance_.observe(now_, now_ + kSection, lanes);
    if (change) changes.push_back(*change);
    now_ += kSection;
  }

  static constexpr double kSection = 0.02;
  Attendance attendance_;
  double now_ = 1000.0;
};

TEST(Attendance, EverybodyTakesPartWhileNobodyIsWaitedFor) {
  Machine machine(3);
  machine.run(30.0);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1, 2));
  EXPECT_TRUE(machine.changes.empty());
  EXPECT_EQ(machine.num_measured, 0);  // no call of the system in a step
}

TEST(Attendance, WhoseCoreIsTakenSitsOutAndComesBackWhenItIsFree) {
  Machine machine(2);
  machine.taken = {1};
  machine.run(1.2);
  EXPECT_THAT(machine.present(), ElementsAre(0));
  ASSERT_EQ(machine.changes.size(), 1U);
  EXPECT_EQ(machine.changes[0].core, 1);
  EXPECT_NEAR(machine.changes[0].share_lost, 0.7, 1e-9);
  machine.taken.clear();
  machine.run(5.0);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1));
  machine.run(60.0);
  EXPECT_EQ(machine.changes.size(), 2U);
}

TEST(Attendance, TheCallerMovesToAFreeCoreWhenItsOwnIsTaken) {
  Machine machine(3);
  machine.taken = {0};
  machine.run(1.2);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1));
  EXPECT_EQ(machine.core_of(0), 2);
  EXPECT_EQ(machine.core_of(2), 0);
  machine.taken.clear();
  machine.run(5.0);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1, 2));
}

TEST(Attendance, TrialsBecomeRarer) {
  Machine machine(2);
  machine.taken = {1};
  machine.run(300.0);
  int64_t trials = 0;
  for (const Attendance::Change& change : machine.changes) trials += change.back ? 1 : 0;
  EXPECT_GE(trials, 6);  // after 5, 10, 20, 40, 60, 60, 60 s
  EXPECT_LE(trials, 8);
  EXPECT_EQ(machine.changes.back().pause_seconds, 60.0);
}

TEST(Attendance, AllWhoseCoresAreTakenSitOutButTheCaller) {
  Machine machine(8);
  machine.taken = {2, 5, 7};
  machine.run(5.0);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1, 3, 4, 6));
  Machine lonely(2);
  lonely.taken = {0, 1};
  lonely.run(600.0);
  EXPECT_EQ(lonely.present().front(), 0);
}

// With two workers the other one would take twice as long.
TEST(Attendance, WhoIsWorthWaitingForStays) {
  Machine machine(2);
  machine.taken = {1};
  machine.lost = 0.5;
  machine.run(30.0);
  EXPECT_THAT(machine.present(), ElementsAre(0, 1));
  Machine larger(8);
  larger.taken = {1};
  larger.lost = 0.3;
  larger.run(2.0);
  EXPECT_THAT(larger.present(), ElementsAre(0, 2, 3, 4, 5, 6, 7));
}

TEST(Attendance, WhoOnlyHasMoreToDoStays) {
  Machine machine(8);
  machine.serial = 0;
  machine.run(30.0);
  EXPECT_EQ(machine.present().size(), 8U);
  EXPECT_TRUE(machine.changes.empty());
  EXPECT_GT(machine.num_measured, 0);
}

}  // namespace
}  // namespace tidemill
