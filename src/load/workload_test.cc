#include "load/workload.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <stdexcept>

namespace tidemill {
namespace {

using testing::HasSubstr;

JsonValue body_of(const Workload& workload, uint64_t index) {
  return *parse_json(workload.body(index).json, kFileJsonLimits);
}

Workload made(LoadOptions options, uint64_t seed = 1) { return {options, "m", seed, 0.0}; }

TEST(Workload, IdPromptsHaveTheStatedLengthAndLieInTheVocabulary) {
  const Workload workload =
      made({.random_input_len = 300, .random_output_len = 7, .random_vocab_size = 40});
  const JsonValue body = body_of(workload, 0);
  ASSERT_EQ(body.find("prompt")->array().size(), 300);
  for (const JsonValue& id : body.find("prompt")->array()) {
    EXPECT_TRUE(id.integer() >= 32 && id.integer() < 40) << id.integer();
  }
  EXPECT_EQ(body.find("max_tokens")->integer(), 7);
  EXPECT_EQ(body.find("model")->string(), "m");
  EXPECT_TRUE(body.find("stream_options")->find("include_usage")->boolean());
  EXPECT_EQ(body.find("ignore_eos"), nullptr);
  EXPECT_EQ(workload.body(0).prompt_tokens, 300);
}

TEST(Workload, BodiesAreAFunctionOfSeedAndNumber) {
  const LoadOptions options{.random_input_len = 20};
  const Workload one = made(options), same = made(options), other = made(options, 2);
  EXPECT_EQ(one.body(5).json, same.body(5).json);
  EXPECT_NE(one.body(5).json, one.body(6).json);
  EXPECT_NE(one.body(5).json, other.body(5).json);
}

TEST(Workload, EveryRouteHasItsOwnNames) {
  const Workload chat = made({.endpoint = "/v1/chat/completions",
                              .stream = false,
                              .ignore_eos = true,
                              .random_input_len = 3});
  const JsonValue message = body_of(chat, 0);
  EXPECT_EQ(message.find("messages")->array()[0].find("role")->string(), "user");
  EXPECT_FALSE(message.find("stream")->boolean());
  EXPECT_EQ(message.find("stream_options"), nullptr);  // it goes with streams alone
  EXPECT_TRUE(message.find("ignore_eos")->boolean());
  const Workload lmi = made({.endpoint = "/invocations", .ignore_eos = true});
  const JsonValue inputs = body_of(lmi, 0);
  EXPECT_TRUE(inputs.find("inputs")->is_string());
  EXPECT_EQ(inputs.find("model"), nullptr);
  const JsonValue& parameters = *inputs.find("parameters");
  EXPECT_EQ(parameters.find("max_new_tokens")->integer(), 128);
  EXPECT_TRUE(parameters.find("details")->boolean());
  EXPECT_TRUE(parameters.find("ignore_eos_token")->boolean());
}

TEST(Workload, LengthsLieWithinTheRatio) {
  const Workload workload = made({.random_input_len = 100, .random_range_ratio = 0.2});
  int64_t least = 1000, most = 0;
  for (uint64_t i = 0; i < 300; ++i) {
    least = std::min(least, workload.body(i).prompt_tokens);
    most = std::max(most, workload.body(i).prompt_tokens);
  }
  EXPECT_TRUE(least >= 80 && least < 90 && most > 110 && most <= 120) << least << " " << most;
}

class Dataset : public testing::Test {
 protected:
  std::string write(std::string_view lines) {
    std::ofstream(path_) << lines;
    return path_.string();
  }
  void TearDown() override { std::filesystem::remove(path_); }

  const std::filesystem::path path_ = std::filesystem::path(testing::TempDir()) /
                                      ("tidemill_dataset_" + std::to_string(::getpid()));
};

TEST_F(Dataset, LinesAreBodiesOrPromptsAndAreTakenInTurn) {
  const Workload workload = made(
      {.dataset = write("two words\n\n\"with a\\nline end\"\n"
                        R"({"prompt":"x","max_tokens":3,"temperature":0.5,"model":"other"})")});
  EXPECT_EQ(body_of(workload, 0).find("prompt")->string(), "two words");
  EXPECT_EQ(workload.body(0).prompt_tokens, 2);
  EXPECT_EQ(body_of(workload, 1).find("prompt")->string(), "with a\nline end");
  const JsonValue body = body_of(workload, 2);
  EXPECT_EQ(body.find("max_tokens")->integer(), 3);
  EXPECT_EQ(body.find("temperature")->number(), 0.5);
  EXPECT_EQ(body.find("model")->string(), "other");
  EXPECT_TRUE(body.find("stream")->boolean());
  EXPECT_EQ(workload.body(3).json, workload.body(0).json);
}

TEST_F(Dataset, AWrongLineIsNamed) {
  const auto refusal = [](const LoadOptions& options) -> std::string {
    try {
      made(options);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_THAT(refusal({.dataset = write("fine\n{\"prompt\":")}), HasSubstr(path_.string() + ":2"));
  EXPECT_THAT(refusal({.dataset = write("\n\n")}), HasSubstr("no line"));
  EXPECT_THAT(refusal({.dataset = "/nobody/here"}), HasSubstr("/nobody/here"));
}

}  // namespace
}  // namespace tidemill
