#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <vector>

#include "executor/failing_allocation.h"

namespace tidemill {
namespace {

TEST(TextPool, OneThreadRunsJobsInTheOrderOfArrival) {
  std::vector<int> order;
  {
    TextPool pool(1);
    for (int i = 0; i < 100; ++i) {
      pool.post([&order, i] { order.push_back(i); });
    }
  }
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
}

TEST(TextPool, WhatWasPostedRunsBeforeThePoolGoesJobsOfJobsIncluded) {
  std::atomic<int> count{0};
  {
    TextPool pool(3);
    for (int i = 0; i < 50; ++i) {
      pool.post([&] {
        ++count;
        pool.post([&] { ++count; });
      });
    }
  }
  EXPECT_EQ(count.load(), 100);
}

TEST(TextPool, N_3_AJobThatWasMadeAheadIsPostedWithoutMemory) {
  std::atomic<int> count{0};
  std::vector<std::shared_ptr<TextPool::Job>> jobs;
  for (int i = 0; i < 100; ++i) {
    jobs.push_back(std::make_shared<TextPool::Job>([&count] { ++count; }));
  }
  for (int round = 1; round <= 2; ++round) {  // one that has run may be posted again
    TextPool pool(2);
    const FailingAllocation failing(0);
    for (const auto& job : jobs) pool.post(job);
    EXPECT_FALSE(FailingAllocation::came()) << "an allocation was tried";
  }
  EXPECT_EQ(count.load(), 200);
}

TEST(TextPool, TO_3_SideRequestsHaveSoManyPlacesAndNoMore) {
  TextPool pool(1);
  std::vector<std::unique_ptr<TextPool::SidePlace>> places;
  for (int64_t i = 0; i < TextPool::kMaxSideRequests; ++i) {
    EXPECT_TRUE(places.emplace_back(std::make_unique<TextPool::SidePlace>(pool))->taken());
  }
  EXPECT_FALSE(TextPool::SidePlace(pool).taken());
  EXPECT_FALSE(TextPool::SidePlace(pool).taken());  // who got none took none away
  places.pop_back();
  EXPECT_TRUE(TextPool::SidePlace(pool).taken());
}

}  // namespace
}  // namespace tidemill
