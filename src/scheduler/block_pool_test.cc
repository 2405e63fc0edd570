#include "scheduler/block_pool.h"

#include <gtest/gtest.h>

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

TEST(BlockPool, WhatWasUsedGoesBeforeWhatNeverWas) {
  BlockPool pool(4);
  EXPECT_EQ(pool.num_used(), 0);
  const BlockRef a = pool.take();
  { const BlockRef gone = pool.take(); }
  EXPECT_EQ(pool.num_used(), 2);
  const BlockRef b = pool.take();
  EXPECT_EQ(b.id(), 1);
  EXPECT_EQ(pool.num_used(), 2);
  const BlockRef c = pool.take();
  const BlockRef d = pool.take();
  EXPECT_TRUE(c && d);
  EXPECT_EQ(pool.num_used(), 4);
  EXPECT_FALSE(pool.take());
}

TEST(BlockPool, I1_I2_NothingIsLostOrGivenTwice) {
  std::mt19937_64 random(1);
  BlockPool pool(13);
  std::vector<BlockRef> held;
  for (int round = 0; round < 100000; ++round) {
    const size_t pick = held.empty() ? 0 : random() % held.size();
    switch (random() % 3) {
      case 0:
        if (BlockRef block = pool.take()) held.push_back(std::move(block));
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
  }
}

}  // namespace
}  // namespace tidemill
