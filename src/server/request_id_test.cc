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

TEST(RequestId, ATraceparentIsReadToTheLetter) {
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const std::string good = "00-" + trace + "-00f067aa0ba902b7-01";
  EXPECT_EQ(trace_id_of(good), trace);
  EXPECT_EQ(trace_id_of("cc" + good.substr(2) + "-more"), trace);
  for (const std::string& bad :
       {std::string(), good.substr(1), good + "-more", "ff" + good.substr(2), "0x" + good.substr(2),
        good.substr(0, 53) + "0g", good.substr(0, 3) + "4BF9" + good.substr(7),
        "00-" + std::string(32, '0') + good.substr(35),
        good.substr(0, 36) + std::string(16, '0') + "-01", "00_" + good.substr(3),
        good.substr(0, 35) + "_" + good.substr(36)}) {
    EXPECT_EQ(trace_id_of(bad), "") << bad;
  }
}

}  // namespace
}  // namespace tidemill
