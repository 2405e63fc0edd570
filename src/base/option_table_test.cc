#include "base/option_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

TEST(OptionTable, Z_6_NumbersOutsideTheirRangeLeaveTheSlotAsItWas) {
  int32_t value = 7;
  for (const char* text : {"0", "1025", "x", "", "12x", "1.5", "99999999999999999999"}) {
    const auto problem = assign(&value, between(1, 1024), text);
    ASSERT_TRUE(problem) << text;
    EXPECT_THAT(*problem, HasSubstr("an integer from 1 to 1024"));
    EXPECT_EQ(value, 7);
  }
  EXPECT_FALSE(assign(&value, between(1, 1024), "1024"));
  EXPECT_EQ(value, 1024);
}

TEST(OptionTable, BlanksAroundAValueDoNotCount) {
  bool flag = false;
  EXPECT_FALSE(assign(&flag, any(), "true "));
  EXPECT_TRUE(flag);
}

TEST(OptionTable, SecondsAreKeptAsMilliseconds) {
  int64_t milliseconds = 0;
  EXPECT_FALSE(assign(SecondsSlot{&milliseconds}, between(0, 10), "2.5"));
  EXPECT_EQ(milliseconds, 2500);
  EXPECT_TRUE(assign(SecondsSlot{&milliseconds}, between(0, 10), "nan"));
  EXPECT_EQ(show(SecondsSlot{&milliseconds}), "2.5");
}

TEST(OptionTable, AChoiceNamesTheOthersWhenItIsWrong) {
  static constexpr std::string_view kChoices[] = {"json", "jsonlines"};
  std::string value = "json";
  EXPECT_THAT(*assign(&value, one_of(kChoices), "xml"), HasSubstr("one of json, jsonlines"));
  EXPECT_FALSE(assign(&value, one_of(kChoices), "jsonlines"));
}

TEST(OptionTable, ListsAreSplitAtCommas) {
  std::vector<std::string> names;
  EXPECT_FALSE(assign(&names, any(), "a, b,,c "));
  EXPECT_THAT(names, ElementsAre("a", "b", "c"));
}

TEST(OptionTable, AWordIsFoundWholeOrNotAtAll) {
  EXPECT_THAT(words_of("  serve  generate chat "), ElementsAre("serve", "generate", "chat"));
  EXPECT_TRUE(contains_word("serve generate", "generate"));
  EXPECT_FALSE(contains_word("serve generate", "gen"));
  EXPECT_FALSE(contains_word("", ""));
}

TEST(OptionTable, ASlipFindsTheNameThatWasMeant) {
  static constexpr std::string_view kNames[] = {"max_rolling_batch_size", "model_id", "dtype"};
  EXPECT_EQ(nearest_name("max_roling_batch_size", kNames), "max_rolling_batch_size");
  EXPECT_EQ(nearest_name("modelid", kNames), "model_id");
  EXPECT_EQ(nearest_name("something_else", kNames), std::nullopt);
}

}  // namespace
}  // namespace tidemill
