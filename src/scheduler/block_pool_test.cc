#include "scheduler/block_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace tidemill {
namespace {

TEST(BlockPool, I2_ABlockIsFreeWhenItsLastHolderIsGone) {
  BlockPool pool(1);
  BlockRef first = pool.take();
  BlockRef second = first.share();
  EXPECT_FALSE(pool.take());
  { const BlockRef gone = std::move(first); }
  EXPECT_EQ(pool.num_free(), 0);
  { const BlockRef gone = std::move(second); }
  EXPECT_EQ(pool.num_free(), 1);
}

TEST(BlockPool, AGrowingSequenceGetsNeighbours) {
  BlockPool pool(8);
  const BlockRef a = pool.take();
  const BlockRef other = pool.take();
  const BlockRef b = pool.take(other.id());
  EXPECT_EQ(b.id(), other.id() + 1);
  EXPECT_EQ(pool.take(b.id()).id(), b.id() + 1);
}

TEST(BlockPool, ARunBeginsInABundleOfItsOwn) {
  BlockPool pool(24);
  const BlockRef a = pool.take();
  const BlockRef b = pool.take();
  EXPECT_EQ(a.id(), 0);
  EXPECT_EQ(b.id(), 8);
  const BlockRef behind_a = pool.take(a.id());
  EXPECT_EQ(behind_a.id(), 1);
  EXPECT_TRUE(pool.goes_on(behind_a.id()));
  EXPECT_FALSE(pool.goes_on(a.id()));
  // Behind the last block of a bundle another one begins.
  std::vector<BlockRef> run;
  for (int i = 2; i < 8; ++i) run.push_back(pool.take(run.empty() ? 1 : run.back().id()));
  EXPECT_EQ(run.back().id(), 7);
  EXPECT_FALSE(pool.goes_on(7));
  EXPECT_EQ(pool.take(7).id(), 16);
}

TEST(BlockPool, WhatWasUsedGoesBeforeWhatNeverWas) {
  BlockPool pool(24);
  EXPECT_EQ(pool.num_used(), 0);
  const BlockRef a = pool.take();
  { const BlockRef gone = pool.take(); }
  EXPECT_EQ(pool.num_used(), 9);
  const BlockRef b = pool.take();
  EXPECT_EQ(b.id(), 8);
  EXPECT_EQ(pool.num_used(), 9);
  const BlockRef c = pool.take();
  EXPECT_EQ(c.id(), 16);
  EXPECT_EQ(pool.num_used(), 17);
}

TEST(BlockPool, WithoutAFreeBundleTheLongestFreeRunIsTaken) {
  BlockPool pool(19);  // the last bundle is not whole
  std::vector<BlockRef> held;
  while (BlockRef block = pool.take(held.empty() ? 0 : held.back().id())) {
    held.push_back(std::move(block));
  }
  ASSERT_EQ(held.size(), 19u);
  EXPECT_FALSE(pool.has_free_bundle());
  const auto give_back = [&](std::initializer_list<int32_t> ids) {
    for (const int32_t id : ids) {
      std::erase_if(held, [&](const BlockRef& block) { return block.id() == id; });
    }
  };
  give_back({1, 3, 4, 11, 12, 13, 16, 17});
  for (const int32_t wanted : {11, 12, 13, 3, 4, 16, 17, 1}) {
    const bool begins = wanted == 11 || wanted == 3 || wanted == 16 || wanted == 1;
    held.push_back(begins ? pool.take() : pool.take(wanted - 1));
    EXPECT_EQ(held.back().id(), wanted);
  }
  EXPECT_FALSE(pool.take());
  give_back({8, 9, 10, 11, 12, 13, 14});
  EXPECT_FALSE(pool.has_free_bundle());
  give_back({15});
  EXPECT_TRUE(pool.has_free_bundle());
}

TEST(BlockPool, I1_I2_NothingIsLostOrGivenTwice) {
  std::mt19937_64 random(1);
  BlockPool pool(13);  // a bundle and a part of one
  std::vector<BlockRef> held;
  for (int round = 0; round < 100000; ++round) {
    const size_t pick = held.empty() ? 0 : random() % held.size();
    switch (random() % 3) {
      case 0:
        if (BlockRef block = held.empty() ? pool.take() : pool.take(held[pick].id())) {
          held.push_back(std::move(block));
        }
        break;
      case 1:
        if (!held.empty() && held.size() < 60) held.push_back(held[pick].share());
        break;
      default:
        if (!held.empty()) held.erase(held.begin() + static_cast<std::ptrdiff_t>(pick));
    }
    std::vector<int> holders(13, 0);
    for (const BlockRef& block : held) {
      ++holders[static_cast<size_t>(block.id())];
      ASSERT_LT(block.id(), pool.num_used());
    }
    for (int32_t id = 0; id < 13; ++id)
      ASSERT_EQ(pool.holders(id), holders[static_cast<size_t>(id)]);
    ASSERT_EQ(pool.num_free(), std::count(holders.begin(), holders.end(), 0));
    ASSERT_EQ(pool.has_free_bundle(), std::count(holders.begin(), holders.begin() + 8, 0) == 8);
  }
}

}  // namespace
}  // namespace tidemill
