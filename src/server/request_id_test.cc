#include "server/request_id.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tidemill {
namespace {

constexpr const char* kUuid = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}";

TEST(RequestId, CO_8_AFitIdOfTheClientIsKept) {
  EXPECT_EQ(request_id_for("a.b:c/D_1-2"), "a.b:c/D_1-2");
  EXPECT_EQ(request_id_for(std::string(128, 'x')), std::string(128, 'x'));
}

TEST(RequestId, CO_8_AnyOtherBecomesANewUuid) {
  for (const std::string& id : {std::string(), std::string(129, 'x'), std::string("a b"),
                                std::string("a\"b"), std::string("\xc3\xa9")}) {
    EXPECT_THAT(request_id_for(id), testing::MatchesRegex(kUuid)) << id;
  }
  EXPECT_NE(request_id_for(""), request_id_for(""));
}

}  // namespace
}  // namespace tidemill
