#include "api/answer_facts.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

TEST(AnswerFacts, RE_6_AnIdIsThePrefixAndTheLettersAndDigitsOfTheUuid) {
  EXPECT_EQ(answer_id("cmpl-", {.unique_id = "3f0e8a52-9f1e-4f0c-8f5e-2f0a7c9b1d11"}),
            "cmpl-3f0e8a529f1e4f0c8f5e2f0a7c9b1d11");
}

}  // namespace
}  // namespace tidemill
