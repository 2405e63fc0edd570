#include "scheduler/draft_cover.h"

#include <gtest/gtest.h>

#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

// Tables of blocks 0, 1, 2, ... and, of a second sequence that shares the first, 0, 3, 4.
class DraftCoverTest : public testing::Test {
 protected:
  DraftCoverTest() {
    for (int i = 0; i < 3; ++i) table_.push_back(pool_.take());
    other_.push_back(table_[0].share());
    for (int i = 0; i < 2; ++i) other_.push_back(pool_.take());
  }
  BlockPool pool_{8};
  BlockTable table_;
  BlockTable other_;
  DraftCover cover_{8};
};

TEST_F(DraftCoverTest, ReachesUpToTheFirstTokenThatIsMissing) {
  EXPECT_EQ(cover_.leading(table_, 96), 0);
  EXPECT_EQ(cover_.leading({}, 0), 0);
  cover_.add(table_, 0, 20);
  EXPECT_EQ(cover_.leading(table_, 96), 20);
  EXPECT_EQ(cover_.leading(table_, 7), 7);
  cover_.add(table_, 20, 33);
  EXPECT_EQ(cover_.leading(table_, 96), 33);
  cover_.add(table_, 33, 96);
  EXPECT_EQ(cover_.leading(table_, 96), 96);
  cover_.add(table_, 10, 12);
  EXPECT_EQ(cover_.leading(table_, 96), 96) << "what is computed again was there";
}

TEST_F(DraftCoverTest, WhoeverSharesABlockSharesWhatItHas) {
  cover_.add(table_, 0, 50);
  EXPECT_EQ(cover_.leading(other_, 96), 32);
  cover_.add(other_, 32, 40);
  EXPECT_EQ(cover_.leading(table_, 96), 50);
  EXPECT_EQ(cover_.leading(other_, 96), 40);
}

TEST_F(DraftCoverTest, WhatIsWrittenAnewIsForgottenFromThereOn) {
  cover_.add(table_, 0, 96);
  cover_.forget(table_, 70, 71);
  EXPECT_EQ(cover_.leading(table_, 96), 70);
  cover_.forget(table_, 64, 96);
  EXPECT_EQ(cover_.leading(table_, 96), 64);
  cover_.forget(table_, 40, 40);
  EXPECT_EQ(cover_.leading(table_, 96), 40);
  cover_.forget(other_, 32, 96);
  EXPECT_EQ(cover_.leading(table_, 96), 40) << "another one's blocks";
}

}  // namespace
}  // namespace tidemill
