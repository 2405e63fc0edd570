#include "command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

namespace tidemill {
namespace {

CommandLineResult parse(std::vector<const char*> words) {
  words.insert(words.begin(), "tidemill");
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  CommandLineResult result = parse_command_line(static_cast<int>(words.size()), words.data());
  testing::internal::GetCapturedStdout();
  testing::internal::GetCapturedStderr();
  return result;
}

std::optional<std::string> value_of(const CommandLine& command, std::string_view name) {
  const auto found = std::ranges::find_if(
      command.given, [&](const GivenOption& option) { return option.name == name; });
  return found == command.given.end() ? std::nullopt : std::optional(found->value);
}

TEST(CommandLine, ASwitchLeavesTheModelAlone) {
  const struct {
    std::vector<const char*> words;
    const char* name;
  } cases[] = {{{"generate", "--chat", "MODEL"}, "chat"},
               {{"serve", "--strict", "MODEL"}, "strict"},
               {{"bench", "--json", "MODEL"}, "json"},
               {{"generate", "MODEL", "--ignore-end"}, "ignore_end"}};
  for (const auto& c : cases) {
    const auto result = parse(c.words);
    ASSERT_TRUE(result.command) << c.name;
    EXPECT_EQ(result.command->model, "MODEL") << c.name;
    EXPECT_EQ(value_of(*result.command, c.name), "true") << c.name;
  }
}

TEST(CommandLine, ASwitchThatIsOnCanBeTurnedOff) {
  for (const char* word : {"--enable-prefix-caching=false", "--enable_prefix_caching=0"}) {
    const auto result = parse({"serve", word, "MODEL"});
    ASSERT_TRUE(result.command) << word;
    EXPECT_EQ(value_of(*result.command, "enable_prefix_caching"), "false") << word;
  }
  const auto apart = parse({"serve", "--enable-prefix-caching", "false", "MODEL"});
  ASSERT_TRUE(apart.command);
  EXPECT_EQ(value_of(*apart.command, "enable_prefix_caching"), "false");
  EXPECT_EQ(apart.command->model, "MODEL");
  EXPECT_EQ(parse({"serve", "--strict=perhaps"}).exit_code, 2);
}

TEST(CommandLine, BoundsOfGoodputMayStandApart) {
  const auto result =
      parse({"bench", "--url", "u", "--goodput", "ttft:200", "tpot:50", "e2el:5000", "MODEL"});
  ASSERT_TRUE(result.command);
  EXPECT_EQ(value_of(*result.command, "goodput"), "ttft:200,tpot:50,e2el:5000");
  EXPECT_EQ(result.command->model, "MODEL");
}

TEST(CommandLine, AVerbHasOnlyTheFlagsThatItReads) {
  for (const std::vector<const char*>& words :
       {std::vector<const char*>{"compile", "x", "--port", "1"},
        {"eval", "x", "--kv-cache-bytes", "1"},
        {"chat", "x", "--job-queue-size", "1"},
        {"inspect", "x", "--speculative", "off"},
        {"compile", "x", "--isa", "avx2"},
        {"serve", "x", "--json"}}) {
    const auto result = parse(words);
    EXPECT_FALSE(result.command) << words[0] << ' ' << words[2];
    EXPECT_EQ(result.exit_code, 2);
  }
}

std::string said(std::vector<const char*> words) {
  words.insert(words.begin(), "tidemill");
  testing::internal::CaptureStderr();
  EXPECT_EQ(parse_command_line(static_cast<int>(words.size()), words.data()).exit_code, 2);
  return testing::internal::GetCapturedStderr();
}

TEST(CommandLine, AMistakeIsToldWithTheWayOut) {
  using testing::HasSubstr;
  EXPECT_THAT(said({}), HasSubstr("name a verb: serve, compile"));
  EXPECT_THAT(said({"frobnicate"}), HasSubstr("frobnicate is no verb. The verbs are serve"));
  EXPECT_THAT(said({"serve", "x", "--prot", "1"}), HasSubstr("did you mean --port?"));
  EXPECT_THAT(said({"serve", "--max-rolling-batch-sise=1"}),
              HasSubstr("did you mean --max-rolling-batch-size?"));
  EXPECT_THAT(said({"serve", "--zzzzzzzz"}),
              HasSubstr("--zzzzzzzz is no flag of serve. `tidemill"));
  EXPECT_THAT(said({"inspect", "x", "--speculative", "off"}),
              HasSubstr("--speculative is a flag of serve, generate, chat, not of"));
  EXPECT_THAT(said({"serve", "x", "--enable-lora", "true"}),
              HasSubstr("--enable-lora is not supported"));
  EXPECT_THAT(said({"serve", "x", "--trust-remote-code"}),
              HasSubstr("no code of a checkpoint is ever executed. Leave it out."));
  EXPECT_THAT(said({"serve", "x", "y"}), HasSubstr("not expected"));
}

}  // namespace
}  // namespace tidemill
