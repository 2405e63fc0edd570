#include "server/service_pace.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

using std::chrono::seconds;

const ServicePace::Time kStart{seconds(1000)};

TEST(ServicePace, WithoutHistoryItIsOneSecond) {
  EXPECT_EQ(ServicePace().seconds_for(kStart, 0, 1000), 1);
}

TEST(ServicePace, TheQueueIsDividedByTheRate) {
  ServicePace pace;
  for (int second = 0; second <= 10; ++second) pace.observe(kStart + seconds(second), second * 5);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(10), 50, 20), 4);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(10), 50, 21), 5);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(10), 50, 0), 1);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(10), 50, 100'000), 30);
}

TEST(ServicePace, OnlyTheLastHalfMinuteCounts) {
  ServicePace pace;
  pace.observe(kStart, 0);  // a long idle time follows
  pace.observe(kStart + seconds(600), 100);
  pace.observe(kStart + seconds(610), 200);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(610), 200, 50), 5);
}

TEST(ServicePace, WhenNothingEndsTheWaitGrows) {
  ServicePace pace;
  pace.observe(kStart, 7);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(12), 7, 3), 12);
  EXPECT_EQ(pace.seconds_for(kStart + seconds(29), 7, 3), 29);
}

}  // namespace
}  // namespace tidemill
