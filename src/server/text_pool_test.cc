#include "server/text_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

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

}  // namespace
}  // namespace tidemill
