#include "model/rope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tidemill {
namespace {

using testing::HasSubstr;

Architecture with_head_dim_128(RopeDescription rope) {
  Architecture architecture;
  architecture.head_dim = 128;
  architecture.rope = std::move(rope);
  return architecture;
}

RopeDescription read(std::string_view json, int64_t max_positions = 32768) {
  const JsonValue config = *parse_json(json);
  return read_rope(JsonFields(config, "config.json"), 128, max_positions);
}

std::string refused_rope(std::string_view json) {
  try {
    read(json);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Rope, FrequenciesFallGeometrically) {
  const auto frequencies = rope_frequencies(with_head_dim_128({.theta = 10000.0}), 4096);
  ASSERT_EQ(frequencies.size(), 64u);
  EXPECT_FLOAT_EQ(frequencies[0], 1.0f);
  EXPECT_FLOAT_EQ(frequencies[32], 0.01f);
}

TEST(Rope, LinearScalingDividesEveryFrequency) {
  const RopeDescription rope = read(R"({"rope_scaling": {"type": "linear", "factor": 4.0}})");
  const auto frequencies = rope_frequencies(with_head_dim_128(rope), 4096);
  EXPECT_FLOAT_EQ(frequencies[0], 0.25f);
  EXPECT_FLOAT_EQ(frequencies[32], 0.0025f);
}

// The numbers of a Llama 3.1 configuration.
TEST(Rope, Llama3KeepsShortWavesDividesLongOnesAndBlendsBetween) {
  const RopeDescription rope = read(
      R"({"rope_theta": 500000.0,
          "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                           "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}})");
  const auto scaled = rope_frequencies(with_head_dim_128(rope), 131072);
  const auto plain = rope_frequencies(with_head_dim_128({.theta = 500000.0}), 131072);
  EXPECT_NEAR(scaled[28], 0.00321145, 5e-9);
  EXPECT_EQ(scaled[28], plain[28]);
  EXPECT_NEAR(plain[29], 0.00261610, 5e-9);
  EXPECT_NEAR(scaled[29], 0.00216657, 5e-9);
  EXPECT_NEAR(plain[34], 0.000938474, 5e-10);
  EXPECT_NEAR(scaled[34], 0.000178508, 5e-10);
  for (size_t j = 35; j < scaled.size(); ++j) EXPECT_FLOAT_EQ(scaled[j], plain[j] / 8.0f) << j;
}

TEST(Rope, DynamicScalingStretchesTheBaseForTheLongestSequenceServed) {
  const RopeDescription rope =
      read(R"({"rope_scaling": {"type": "dynamic", "factor": 2.0}})", 4096);
  const auto plain = rope_frequencies(with_head_dim_128({.theta = 10000.0}), 4096);
  EXPECT_EQ(rope_frequencies(with_head_dim_128(rope), 4096), plain);
  EXPECT_EQ(rope_frequencies(with_head_dim_128(rope), 1000), plain);
  const auto stretched = rope_frequencies(with_head_dim_128(rope), 8192);
  // Frequency 32 of 64 is the base to the power of -1/2.
  EXPECT_NEAR(1.0 / (double{stretched[32]} * stretched[32]), 30527.737, 0.01);
}

// The numbers of a Qwen2 with YaRN: index 23 is still exact, 40 is fully interpolated.
TEST(Rope, YarnInterpolatesBetweenItsTwoBoundaries) {
  const RopeDescription rope = read(
      R"({"rope_theta": 1000000.0,
          "rope_scaling": {"type": "yarn", "factor": 4.0,
                           "original_max_position_embeddings": 32768}})");
  EXPECT_NEAR(rope_attention_factor(with_head_dim_128(rope)), 1.1386294f, 1e-7f);
  const auto scaled = rope_frequencies(with_head_dim_128(rope), 131072);
  const auto plain = rope_frequencies(with_head_dim_128({.theta = 1000000.0}), 131072);
  for (size_t j = 0; j < 64; ++j) {
    const double ramp = std::clamp((static_cast<double>(j) - 23.0) / 17.0, 0.0, 1.0);
    const double expected = plain[j] * (1.0 - ramp) + plain[j] / 4.0 * ramp;
    EXPECT_NEAR(scaled[j] / expected, 1.0, 1e-6) << j;
  }
  EXPECT_EQ(scaled[23], plain[23]);
  EXPECT_LT(scaled[24], plain[24]);
  EXPECT_GT(scaled[39], plain[39] / 4.0f);
  EXPECT_FLOAT_EQ(scaled[40], plain[40] / 4.0f);
}

TEST(Rope, YarnsAttentionFactorComesFromTheFirstKeyThatGivesIt) {
  const auto factor = [](std::string_view more) {
    return read(std::string(R"({"rope_scaling": {"rope_type": "yarn", "factor": 4.0)") +
                std::string(more) + "}}")
        .attention_factor;
  };
  EXPECT_NEAR(factor(""), 0.1 * std::log(4.0) + 1.0, 1e-12);
  EXPECT_EQ(factor(R"(, "attention_factor": 0.5)"), 0.5);
  EXPECT_NEAR(factor(R"(, "mscale": 0.7, "mscale_all_dim": 0.5)"),
              (0.07 * std::log(4.0) + 1.0) / (0.05 * std::log(4.0) + 1.0), 1e-12);
}

TEST(Rope, YarnWithoutTruncationUsesTheExactBoundaries) {
  RopeDescription rope = read(R"({"rope_theta": 1000000.0, "rope_scaling": {
      "rope_type": "yarn", "factor": 4.0, "truncate": false}})");
  const auto exact = rope_frequencies(with_head_dim_128(rope), 4096);
  rope.truncate = true;
  const auto truncated = rope_frequencies(with_head_dim_128(rope), 4096);
  EXPECT_EQ(exact[10], truncated[10]);
  EXPECT_NE(exact[30], truncated[30]);
}

TEST(Rope, DivisorsOfTheFileApplyOnTop) {
  RopeDescription rope{.theta = 10000.0};
  rope.divisors.assign(64, 1.0);
  rope.divisors[32] = 8.0;
  const auto frequencies = rope_frequencies(with_head_dim_128(rope), 4096);
  EXPECT_FLOAT_EQ(frequencies[0], 1.0f);
  EXPECT_FLOAT_EQ(frequencies[32], 0.00125f);
}

TEST(Rope, TheNewSpellingIsUnderstood) {
  const RopeDescription plain =
      read(R"({"rope_parameters": {"rope_type": "default", "rope_theta": 50000.0}})");
  EXPECT_EQ(plain.theta, 50000.0);
  EXPECT_EQ(plain.scaling, RopeScaling::kNone);
  const RopeDescription linear =
      read(R"({"rope_parameters": {"rope_type": "linear", "rope_theta": 5000.0, "factor": 2.0}})");
  EXPECT_EQ(linear.theta, 5000.0);
  EXPECT_EQ(linear.factor, 2.0);
}

TEST(Rope, OfTwoSpellingsOfTheKindTheNewerCounts) {
  EXPECT_EQ(
      read(R"({"rope_scaling": {"type": "dynamic", "rope_type": "linear", "factor": 2}})").scaling,
      RopeScaling::kLinear);
}

TEST(Rope, OtherKindsAreRefusedByName) {
  EXPECT_THAT(
      refused_rope(R"({"rope_scaling": {"type": "longrope", "factor": 4.0}})"),
      HasSubstr("type is \"longrope\"; it must be default, linear, dynamic, llama3 or yarn"));
  EXPECT_THAT(refused_rope(R"({"rope_parameters": {"full_attention": {}}})"),
              HasSubstr("full_attention"));
  EXPECT_THAT(refused_rope(R"({"rope_parameters": {"partial_rotary_factor": 0.5}})"),
              HasSubstr("partial_rotary_factor is 0.5"));
}

TEST(Rope, AnAttentionFactorThatIsNoPositiveFloatIsRefused) {
  for (const char* rest : {R"("factor": 1e300, "mscale": 1e308, "mscale_all_dim": 1)",
                           R"("factor": 4.0, "mscale": -100, "mscale_all_dim": 1)",
                           R"("factor": 4.0, "attention_factor": 1e300)",
                           R"("factor": 4.0, "attention_factor": 1e-300)"}) {
    EXPECT_THAT(refused_rope(format(R"({{"rope_scaling": {{"type": "yarn", {}}}}})", rest)),
                HasSubstr("cos and sin would be multiplied by"))
        << rest;
  }
}

TEST(Rope, IncompleteOrSenselessScalingIsRefused) {
  EXPECT_THAT(refused_rope(R"({"rope_scaling": {"type": "linear"}})"),
              HasSubstr("factor is missing"));
  EXPECT_THAT(refused_rope(R"({"rope_scaling": {"factor": 2.0}})"), HasSubstr("no rope_type"));
  EXPECT_THAT(refused_rope(R"({"rope_scaling": {"type": "linear", "factor": 0}})"),
              HasSubstr("factor is 0"));
  EXPECT_THAT(refused_rope(R"({"rope_scaling": {"type": "llama3", "factor": 8.0}})"),
              HasSubstr("low_freq_factor is missing"));
  EXPECT_THAT(refused_rope(R"({"rope_scaling": "linear"})"), HasSubstr("it must be an object"));
}

}  // namespace
}  // namespace tidemill
