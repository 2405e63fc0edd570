#include "scheduler/draft_costs.h"

#include <gtest/gtest.h>

#include <vector>

namespace tidemill {
namespace {

const std::vector<double> kGrowth = {1.0, 1.1, 1.1, 1.1, 1.2, 1.2, 1.2, 1.2, 2.2, 3.2};
constexpr double kAny = 100.0;

TEST(DraftCosts, AStepGrowsByItsDraftsAlone) {
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 1, 0), 1.0);
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 1, 7), 1.2);
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 4, 1), 1.2 / 1.1);
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 8, 20), 3.2 / 1.2) << "beyond what is known";
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 20, 5), 1.0);
  EXPECT_DOUBLE_EQ(growth_by_drafts({}, 1, 5), 1.0);
  EXPECT_DOUBLE_EQ(growth_by_drafts(kGrowth, 0, 5), 1.0);
}

TEST(DraftCosts, AsManyAsAStepMayGrowBy) {
  EXPECT_EQ(affordable_drafts(kGrowth, 1, 1.03, 1.0), 0);
  EXPECT_EQ(affordable_drafts(kGrowth, 2, 1.03, 1.0), 2);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, 1.15, 1.0), 3);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, 1.21, 1.0), 7);
  EXPECT_EQ(affordable_drafts(kGrowth, 5, 1.0, 1.0), 3);
  EXPECT_EQ(affordable_drafts(kGrowth, 10, kAny, 1.0), 0);
  EXPECT_EQ(affordable_drafts(kGrowth, 12, kAny, 1.0), 0);
  EXPECT_EQ(affordable_drafts({}, 1, kAny, 1.0), 0);
  EXPECT_EQ(affordable_drafts(kGrowth, 0, kAny, 1.0), 0);
}

// 9 drafts of one sequence lose 2.2 tokens, 2 of 8 sequences 8 (3.2 / 1.2 - 1) = 13.3.
TEST(DraftCosts, NoMoreThanAreWorthIt) {
  EXPECT_EQ(affordable_drafts(kGrowth, 1, kAny, 1.0), 9);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, kAny, 0.25), 9);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, kAny, 0.2), 8);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, kAny, 0.1), 7);
  EXPECT_EQ(affordable_drafts(kGrowth, 1, kAny, 0.01), 0);
  EXPECT_EQ(affordable_drafts(kGrowth, 8, kAny, 1.0), 0);
}

// Of one sequence, 0.1 a pass: k drafts bring 1 + c + ... + c^k tokens for kGrowth[k] + 0.1 k.
TEST(DraftCosts, ADraftModelMakesAsManyAsAreFastest) {
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 0.1, 0.7, 15).drafts, 3) << "1.81 against 1.68 and 1.73";
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 0.1, 0.7, 2).drafts, 2);
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 0.1, 1.0, 15).drafts, 7) << "4.2 against 3.0";
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 0.1, 0.2, 15).drafts, 0);
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 1.0, 0.9, 15).drafts, 0) << "as slow as the model";
  EXPECT_EQ(fastest_drafts({}, 4, 0.1, 0.7, 3).drafts, 2) << "1.29 against 1.26 and 1.24";
  EXPECT_EQ(fastest_drafts(kGrowth, 1, 0.1, 0.7, 0).drafts, 0);
}

TEST(DraftCosts, WhatADraftModelHasToSeeIsPaidForInSteps) {
  EXPECT_DOUBLE_EQ(catching_up(kGrowth, 0.1, 1), 0.1);
  EXPECT_DOUBLE_EQ(catching_up(kGrowth, 0.1, 10), 0.1 * 3.2);
  EXPECT_DOUBLE_EQ(catching_up(kGrowth, 0.1, 91), 0.1 * (1.0 + 90 * 2.2 / 9));
  EXPECT_DOUBLE_EQ(catching_up({}, 0.2, 33), 0.2 * 3.0);
}

TEST(DraftChance, FollowsWhatDraftsWereWorth) {
  DraftChance chance;
  EXPECT_DOUBLE_EQ(chance.value(), 0.7);
  chance.judge(0, 0);
  EXPECT_DOUBLE_EQ(chance.value(), 0.7);
  chance.judge(2, 2);
  EXPECT_DOUBLE_EQ(chance.value(), (16 * 0.7 + 2) / 18) << "as if sixteen were known";
  chance.judge(0, 5);
  EXPECT_DOUBLE_EQ(chance.value(), (16 * 0.7 + 2) / 19) << "behind a wrong one nothing is known";
  for (int step = 0; step < 200; ++step) chance.judge(1, 3);
  EXPECT_NEAR(chance.value(), 0.5, 0.05) << "one right for one wrong";
  for (int step = 0; step < 200; ++step) chance.judge(0, 3);
  EXPECT_LT(chance.value(), 0.01);
}

TEST(DraftChance, RestsTwiceAsLongEachTimeItGivesUpInARow) {
  DraftChance chance;
  const auto rest = [&] {
    int steps = 0;
    while (chance.rests()) ++steps;
    return steps;
  };
  EXPECT_EQ(rest(), 0);
  for (const int steps : {32, 64, 128, 256, 512, 1024, 1024}) {
    const double before = chance.value();
    chance.give_up();
    EXPECT_DOUBLE_EQ(chance.value(), (before + DraftChance::kAtFirst) / 2);
    EXPECT_EQ(rest(), steps);
    chance.judge(0, 1);
  }
  for (int step = 0; step < 20; ++step) chance.judge(3, 3);
  chance.give_up();
  EXPECT_EQ(rest(), 32) << "it had done well";
}

TEST(DraftAccount, HoldsWhatStepsAllowAndRightDraftsBring) {
  DraftAccount account;
  EXPECT_DOUBLE_EQ(account.most_growth(), 1.03);
  account.pay(1.0);
  account.pay(1.0);
  EXPECT_DOUBLE_EQ(account.most_growth(), 1.09);
  account.pay(1.09);
  EXPECT_NEAR(account.steps(), 0.0, 1e-12);
  account.pay(1.03);
  account.earn(2);
  EXPECT_DOUBLE_EQ(account.steps(), DraftAccount::kMost) << "and no more";
  account.pay(2.03);
  EXPECT_NEAR(account.steps(), 0.0, 1e-12);
}

TEST(DraftAccount, WhoIsInDebtWaits) {
  DraftAccount account;
  account.pay(1.2);  // drafts from outside, which nobody asked it for
  EXPECT_DOUBLE_EQ(account.most_growth(), 1.0);
  for (int step = 0; step < 10; ++step) account.pay(1.0);
  EXPECT_GT(account.most_growth(), 1.1);
}

}  // namespace
}  // namespace tidemill
