#include "executor/step_input.h"

#include <gtest/gtest.h>

#include <random>

namespace tidemill {
namespace {

StepInput random_input(std::mt19937_64& random) {
  StepInput input;
  input.plan.window = static_cast<int64_t>(random() % 4096);
  for (uint64_t i = random() % 4; i > 0; --i) {
    input.plan.rows.push_back({static_cast<SequenceId>(random()), 1, 2, 1, 1});
    input.forward.token_ids.push_back(static_cast<TokenId>(random()));
    const std::vector<TokenId> ids(random() % 3, 5);
    const std::vector<float> bias(ids.size(), 0.5f);
    const auto some = [&] { return random() % 2 == 0 ? ids : std::vector<TokenId>(); };
    const auto allowed = some(), forbidden = some(), prompt = some(), output = some();
    input.add_score_row({.params = {.temperature = 0.5f,
                                    .seed = random(),
                                    .min_p = 0.25f,
                                    .presence_penalty = -1.0f,
                                    .processed_logprobs = random() % 2 == 0},
                         .position = 7,
                         .scored = static_cast<TokenId>(random() % 9)},
                        {.allowed = allowed,
                         .forbidden = forbidden,
                         .bias_ids = ids,
                         .bias = bias,
                         .prompt = prompt,
                         .output = output});
  }
  input.forward.groups.push_back({.table_begins = {0, 1}, .block_ids = {5}});
  return input;
}

TEST(StepInput, SurvivesAsBytesAndSoDoesItsResult) {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    const StepInput input = random_input(random);
    const std::string bytes = to_bytes(input);
    EXPECT_EQ(step_input_from_bytes(bytes), input);
    EXPECT_EQ(step_input_from_bytes(bytes + "x"), std::nullopt);
    EXPECT_EQ(step_input_from_bytes(bytes.substr(0, bytes.size() - 1)), std::nullopt);
    std::string damaged = bytes;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    (void)step_input_from_bytes(damaged);  // whatever it says, it must not crash
  }
  const StepResult result{.rows = {{.sequence = 4, .accepted = {{1, -0.5f, {{2, -1.0f}}}}},
                                   {.sequence = 5, .failure = RowFailure::kNotFinite}}};
  EXPECT_EQ(step_result_from_bytes(to_bytes(result)), result);
}

TEST(StepInput, WhatIsForbiddenStandsInFlatArraysAndOnlyWhereSomethingIs) {
  const auto row = [](const StepInput& input, size_t index) {
    const auto ids = input.changes(index).forbidden;
    return std::vector<TokenId>(ids.begin(), ids.end());
  };
  StepInput input;
  input.add_score_row({}, {});
  EXPECT_TRUE(input.forbidden.begins.empty()) << "a step without masks carries none";
  EXPECT_TRUE(row(input, 0).empty());
  input.add_score_row({}, {.forbidden = std::vector<TokenId>{7, 8}});
  input.add_score_row({}, {});
  input.add_score_row({}, {.forbidden = std::vector<TokenId>{9}});
  EXPECT_EQ(input.forbidden.items, (std::vector<TokenId>{7, 8, 9}));
  EXPECT_EQ(input.forbidden.begins, (std::vector<int32_t>{0, 0, 2, 2, 3}));
  EXPECT_TRUE(row(input, 0).empty());
  EXPECT_EQ(row(input, 1), (std::vector<TokenId>{7, 8}));
  EXPECT_TRUE(row(input, 2).empty());
  EXPECT_EQ(row(input, 3), (std::vector<TokenId>{9}));
  EXPECT_EQ(step_input_from_bytes(to_bytes(input)), input);
}

TEST(StepInput, ForbiddenIdsThatLieOutsideTheirArrayAreMalformed) {
  StepInput good;
  good.add_score_row({}, {.forbidden = std::vector<TokenId>{7, 8}});
  good.add_score_row({}, {});
  ASSERT_EQ(step_input_from_bytes(to_bytes(good)), good);
  for (const std::vector<int32_t>& begins : std::vector<std::vector<int32_t>>{
           {}, {0, 2}, {0, 2, 3}, {0, 3, 2}, {1, 2, 2}, {-1, 2, 2}, {0, 2, 2, 2}, {0, 1, 1}}) {
    StepInput bad = good;
    bad.forbidden.begins = begins;
    EXPECT_EQ(step_input_from_bytes(to_bytes(bad)), std::nullopt);
  }
}

TEST(StepInput, ABiasWithoutItsIdIsMalformed) {
  const std::vector<TokenId> ids = {7, 8};
  const std::vector<float> bias = {0.5f, 1.0f};
  StepInput good;
  good.add_score_row({});
  good.add_score_row({}, {.bias_ids = ids, .bias = bias});
  ASSERT_EQ(step_input_from_bytes(to_bytes(good)), good);
  StepInput bad = good;
  bad.bias = {};
  EXPECT_EQ(step_input_from_bytes(to_bytes(bad)), std::nullopt);
  bad = good;
  bad.bias.items.push_back(2.0f);
  bad.bias.begins.back() = 3;
  EXPECT_EQ(step_input_from_bytes(to_bytes(bad)), std::nullopt);
  for (RowLists<TokenId> StepInput::*lists : {&StepInput::allowed, &StepInput::output}) {
    bad = good;
    (bad.*lists).begins = {0, 1, 1};
    EXPECT_EQ(step_input_from_bytes(to_bytes(bad)), std::nullopt);
  }
}

TEST(StepResult, CutOrDamagedBytesAreNoneOrMeanWhatTheySay) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    StepResult result;
    for (uint64_t i = random() % 4; i > 0; --i) {
      RowResult& row = result.rows.emplace_back();
      row.sequence = static_cast<SequenceId>(random());
      if (random() % 3 == 0) row.failure = static_cast<RowFailure>(random() % 2);
      row.prompt.resize(random() % 3, {.token = 6, .logprob = -2.5f});
      row.accepted.resize(random() % 3, {.token = 5, .logprob = -1.5f, .top = {{1, -1.5f}}});
    }
    std::string bytes = to_bytes(result);
    EXPECT_EQ(step_result_from_bytes(bytes), result);
    EXPECT_EQ(step_result_from_bytes(bytes.substr(0, random() % bytes.size())), std::nullopt);
    bytes[random() % bytes.size()] = static_cast<char>(random());
    const auto read = step_result_from_bytes(bytes);
    if (!read) continue;
    EXPECT_EQ(to_bytes(*read), bytes);
  }
}

TEST(StepResult, AnUnknownFailureIsMalformed) {
  const StepResult known{.rows = {{.failure = RowFailure::kOutOfMemory}}};
  EXPECT_EQ(step_result_from_bytes(to_bytes(known)), known);
  const StepResult unknown{.rows = {{.failure = static_cast<RowFailure>(2)}}};
  EXPECT_EQ(step_result_from_bytes(to_bytes(unknown)), std::nullopt);
}

TEST(StepInput, NoiseIsReadWithoutHarm) {
  std::mt19937_64 random(8);
  for (int round = 0; round < 5000; ++round) {
    std::string noise(random() % 200, '\0');
    for (char& byte : noise) byte = static_cast<char>(random() % 3 == 0 ? random() % 256 : 0);
    (void)step_input_from_bytes(noise);
    (void)step_result_from_bytes(noise);
  }
}

}  // namespace
}  // namespace tidemill
