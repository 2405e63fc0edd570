#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>

namespace tidemill {
namespace {

Result<int> half_of(int number) {
  if (number % 2 == 0) return number / 2;
  return Error{.kind = ErrorKind::kInvalidParameter, .field = "number", .message = "is odd"};
}

TEST(Result, IsAValueOrAnError) {
  ASSERT_TRUE(half_of(4));
  EXPECT_EQ(*half_of(4), 2);
  ASSERT_FALSE(half_of(3));
  EXPECT_EQ(half_of(3).error(), (Error{ErrorKind::kInvalidParameter, "number", "is odd"}));
}

TEST(Result, HandsOnWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  const std::unique_ptr<int> value = std::move(*result);
  EXPECT_EQ(*value, 7);
}

TEST(ResultDeathTest, AskingForTheOtherOneEndsTheProcess) {
  EXPECT_DEATH(half_of(3).value(), "is odd");
  EXPECT_DEATH(half_of(4).error(), "holds a value");
}

}  // namespace
}  // namespace tidemill
