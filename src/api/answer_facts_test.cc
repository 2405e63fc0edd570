#include "api/answer_facts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

namespace tidemill {
namespace {

TEST(AnswerFacts, IdsHaveAPrefixAndAtLeast24LettersAndDigits) {
  std::set<std::string> ids;
  for (const char* request_id :
       {"3f0e8a52-9f1e-4f0c-8f5e-2f0a7c9b1d11", "a", "mine-7", "mine.7", "mine:7", "mine/7",
        "0123456789abcdef01234567", "0123456789abcdef.01234567"}) {
    const std::string id = answer_id("cmpl-", {.request_id = request_id});
    ASSERT_TRUE(id.starts_with("cmpl-"));
    const std::string rest = id.substr(5);
    EXPECT_GE(rest.size(), 24u) << request_id;
    EXPECT_TRUE(std::all_of(rest.begin(), rest.end(), [](unsigned char c) {
      return std::isalnum(c) != 0;
    })) << id;
    EXPECT_TRUE(ids.insert(id).second) << request_id << " has the id of another request";
  }
}

TEST(AnswerFacts, TheSameRequestHasTheSameId) {
  EXPECT_EQ(answer_id("x-", {.request_id = "me"}), answer_id("x-", {.request_id = "me"}));
}

}  // namespace
}  // namespace tidemill
