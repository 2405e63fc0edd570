#include "base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <sstream>

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

TEST_F(LogTest, Z_4_FieldsAreShortAndCannotForgeOthers) {
  set_log(LogLevel::kInfo, LogFormat::kText);
  const std::string longest(1000, 'l');
  const std::string line = logged([&] {
    const LogField fields[] = {
        {"id", std::string_view("a-1")}, {"route", std::string_view("x\n y=\"z\"\x7f")},
        {"status", int64_t{200}},        {"ms", 1.25},
        {"none", std::string_view()},    {"long", std::string_view(longest)}};
    log_fields(LogLevel::kInfo, "request", fields);
  });
  EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
  EXPECT_THAT(line,
              testing::HasSubstr(R"(request id=a-1 route="x\n y=\"z\"\x7f" status=200 ms=1.250)"));
  EXPECT_THAT(line, testing::HasSubstr(" none=\"\" long=" + std::string(256, 'l') + "\n"));
}

TEST_F(LogTest, Z_4_AsJsonFieldsAreMembers) {
  set_log(LogLevel::kInfo, LogFormat::kJson);
  const std::string line = logged([] {
    const LogField fields[] = {{"id", std::string_view("a\"\xff")}, {"status", int64_t{404}}};
    log_fields(LogLevel::kInfo, "request", fields);
  });
  const auto json = parse_json(line);
  ASSERT_TRUE(json) << line;
  EXPECT_EQ(json->find("message")->string(), "request");
  EXPECT_EQ(json->find("id")->string(), "a\"\ufffd");
  EXPECT_EQ(json->find("status")->integer(), 404);
}

TEST_F(LogTest, Z_4_AVeryLongLineIsCutAndStaysALine) {
  for (const LogFormat format : {LogFormat::kText, LogFormat::kJson}) {
    set_log(LogLevel::kInfo, format);
    for (const char byte : {'x', '\x01', '"'}) {
      const std::string line = logged([&] { log_info("{}", std::string(100'000, byte)); });
      EXPECT_LE(line.size(), 4096u);
      EXPECT_EQ(std::count(line.begin(), line.end(), '\n'), 1);
      EXPECT_TRUE(format == LogFormat::kText || parse_json(line));
    }
  }
}

// Standard error is a pipe that nobody reads, and then somebody does.
TEST_F(LogTest, Z_3_ABlockedTargetDropsLinesAndCountsThem) {
  set_log(LogLevel::kInfo, LogFormat::kText);
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const int standard_error = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  const int64_t before = dropped_log_lines();
  const auto begun = std::chrono::steady_clock::now();
  for (int i = 0; i < 2000; ++i) log_info("{} {}", i, std::string(100, 'x'));
  const auto took = std::chrono::steady_clock::now() - begun;
  const int64_t dropped = dropped_log_lines() - before;
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  std::string read;
  char bytes[65536];
  const auto read_all = [&] {
    for (ssize_t got; (got = ::read(ends[0], bytes, sizeof bytes)) > 0;) {
      read.append(bytes, static_cast<size_t>(got));
    }
  };
  read_all();
  log_info("there is room again");
  read_all();
  ::dup2(standard_error, STDERR_FILENO);
  for (const int fd : {ends[0], ends[1], standard_error}) ::close(fd);
  EXPECT_LT(took, std::chrono::seconds(2));
  EXPECT_GT(dropped, 0);
  EXPECT_LT(dropped, 2000);
  int64_t told = 0, lines = 0;
  std::istringstream all(read);
  for (std::string line; std::getline(all, line); ++lines) {
    const size_t at = line.find("warning ");
    if (at == std::string::npos) continue;
    told += std::atoll(line.c_str() + at + 8);
    --lines;
  }
  EXPECT_EQ(lines, 2000 - dropped + 1);
  EXPECT_EQ(told, dropped);
  EXPECT_THAT(read, testing::EndsWith("info there is room again\n"));
}

TEST_F(LogTest, Z_3_AFullDiskDropsLinesAndCountsThem) {
  set_log(LogLevel::kInfo, LogFormat::kText);
  const int full = ::open("/dev/full", O_WRONLY);
  if (full < 0) GTEST_SKIP() << "there is no /dev/full";
  const int standard_error = ::dup(STDERR_FILENO);
  ::dup2(full, STDERR_FILENO);
  const int64_t before = dropped_log_lines();
  for (int i = 0; i < 10; ++i) log_info("nobody will read this");
  ::dup2(standard_error, STDERR_FILENO);
  ::close(full);
  ::close(standard_error);
  EXPECT_EQ(dropped_log_lines() - before, 10);
}

}  // namespace
}  // namespace tidemill
