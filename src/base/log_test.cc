#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"

namespace tidemill {
namespace {

class LogTest : public testing::Test {
 protected:
  ~LogTest() override { set_log(LogLevel::kInfo, LogFormat::kText); }

  template <typename Action>
  static std::string logged(Action action) {
    testing::internal::CaptureStderr();
    action();
    return testing::internal::GetCapturedStderr();
  }
};

TEST_F(LogTest, Z_4_AnEventIsOneLineWhateverItHolds) {
  set_log(LogLevel::kInfo, LogFormat::kText);
  const std::string line = logged([] { log_info("a\nforged {}\x1b[2J\r", "line"); });
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_THAT(line, testing::HasSubstr(R"(a\x0aforged line\x1b[2J\x0d)"));
}

TEST_F(LogTest, LinesBelowTheLevelAreNotWritten) {
  set_log(LogLevel::kWarning, LogFormat::kText);
  EXPECT_EQ(logged([] { log_info("quiet"); }), "");
  EXPECT_THAT(logged([] { log_error("loud"); }), testing::HasSubstr("loud"));
  EXPECT_FALSE(logs(LogLevel::kInfo));
  EXPECT_TRUE(logs(LogLevel::kWarning));
  set_log(LogLevel::kOff, LogFormat::kText);
  EXPECT_EQ(logged([] { log_error("nothing"); }), "");
}

TEST_F(LogTest, AsJsonEachLineIsADocument) {
  set_log(LogLevel::kInfo, LogFormat::kJson);
  const auto json = parse_json(logged([] { log_warning("say \"{}\"\n", "hé"); }));
  ASSERT_TRUE(json);
  EXPECT_EQ(json->find("message")->string(), "say \"hé\"\n");
  EXPECT_EQ(json->find("level")->string(), "warning");
}

}  // namespace
}  // namespace tidemill
