#include "executor/script_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <stdexcept>

#include "executor/byte_tokenizer.h"
#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;

// What a script file of that text says, or the refusal.
class ScriptFile {
 public:
  explicit ScriptFile(std::string_view text)
      : path_(fs::temp_directory_path() / ("tidemill-script-" + std::to_string(::getpid()))) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ScriptFile(const ScriptFile&) = delete;
  ScriptFile& operator=(const ScriptFile&) = delete;
  ~ScriptFile() { fs::remove(path_); }

  Script read() const { return read_script(path_); }
  std::string refusal() const {
    try {
      read();
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "accepted";
  }

 private:
  const fs::path path_;
};

TEST(ReadScript, TheExampleOfTheTestsCanBeRead) {
  const Script script = read_script(fs::path(TIDEMILL_SOURCE_DIR) / "tests/scripts/hello.json");
  EXPECT_EQ(script.max_model_len, 2048);
  EXPECT_EQ(script.num_blocks, 256);
  ASSERT_EQ(script.rules.size(), 5u);
  EXPECT_EQ(script.rules[1].reply.size(), 20 * std::string("one two three ").size() + 1);
  EXPECT_EQ(script.rules[1].delay_ms, 5);
  EXPECT_THAT(script.rules[3].reply, ElementsAre(72, 105, kScriptEndId, kScriptEndId));
  EXPECT_EQ(script.rules[4].fail_at, 11);
}

TEST(ReadScript, AnEmptyScriptHasTheDefaults) {
  const Script script = ScriptFile("{}").read();
  EXPECT_EQ(script.max_model_len, Script{}.max_model_len);
  EXPECT_TRUE(script.rules.empty());
}

TEST(ReadScript, WhatItDoesNotKnowOrCannotDoIsRefusedByName) {
  const std::pair<const char*, const char*> bad[] = {
      {"", "JSON"},
      {"[]", "object"},
      {R"({"max_model_len": 0})", "positive"},
      {R"({"step_ms": -1})", "step_ms"},
      {R"({"stepms": 1})", "stepms"},
      {R"({"rules": {}})", "rules"},
      {R"({"rules": [7]})", "object"},
      {R"({"rules": [{"when": "x"}]})", "reply or tokens"},
      {R"({"rules": [{"when": 1, "reply": "x"}]})", "when"},
      {R"({"rules": [{"reply": 1}]})", "reply"},
      {R"({"rules": [{"tokens": [259]}]})", "vocabulary"},
      {R"({"rules": [{"tokens": "x"}]})", "tokens"},
      {R"({"rules": [{"reply": "x", "fail_at": 1.5}]})", "fail_at"},
      {R"({"rules": [{"reply": "x", "logprob": "low"}]})", "logprob"},
      {R"({"rules": [{"reply": "x", "fails_at": 1}]})", "fails_at"}};
  for (const auto& [text, what] : bad) {
    EXPECT_THAT(ScriptFile(text).refusal(), HasSubstr(what)) << text;
  }
  EXPECT_THROW(read_script("/nowhere/script.json"), std::runtime_error);
}

// One sequence whose step writes `tokens` from `first` on into the given blocks, and asks for a
// token behind them.
StepInput step_of(SequenceId id, int32_t first, const std::vector<TokenId>& tokens,
                  const std::vector<int32_t>& blocks) {
  const auto count = static_cast<int32_t>(tokens.size());
  StepInput input{.plan = {.rows = {{id, first, count, 1}}}, .sampling = {{}}};
  input.forward.token_ids = tokens;
  for (int32_t i = 0; i < count; ++i) input.forward.positions.push_back(first + i);
  input.forward.groups = {
      {.table_begins = std::vector<int32_t>(tokens.size(), 0), .block_ids = blocks}};
  input.forward.score_rows = {count - 1};
  return input;
}

std::vector<TokenId> prompt(int64_t length) { return std::vector<TokenId>(length, 'p'); }

class ScriptRunnerTest : public testing::Test {
 protected:
  TokenId next(const StepInput& input) {
    return runner_.run(input).rows.at(0).accepted.at(0).token;
  }

  ScriptRunner runner_{{.num_blocks = 4, .rules = {{.reply = {'a', 'b', kScriptEndId}}}}};
};

TEST_F(ScriptRunnerTest, SaysItsReplyTokenByToken) {
  EXPECT_EQ(next(step_of(1, 0, prompt(3), {2})), 'a');
  EXPECT_EQ(next(step_of(1, 3, {'a'}, {2})), 'b');
  EXPECT_EQ(next(step_of(1, 4, {'b'}, {2})), kScriptEndId);
}

TEST_F(ScriptRunnerTest, ASequenceThatIsComputedAgainElsewhereGoesOn) {
  next(step_of(1, 0, prompt(3), {2}));
  EXPECT_EQ(next(step_of(1, 0, {'p', 'p', 'p', 'a'}, {0})), 'b');
}

// Negative controls: what the executor's tests rely on must be able to fail.
TEST_F(ScriptRunnerTest, ThrowsWhenAPositionWasNeverWritten) {
  EXPECT_THROW(next(step_of(1, 1, prompt(3), {2})), std::logic_error);
}

TEST_F(ScriptRunnerTest, ThrowsWhenATokenIsNotTheOneThatWasChosen) {
  next(step_of(1, 0, prompt(3), {2}));
  EXPECT_THROW(next(step_of(1, 3, {'x'}, {2})), std::logic_error);
}

TEST_F(ScriptRunnerTest, ThrowsWhenAnotherSequenceHasTheBlock) {
  next(step_of(1, 0, prompt(kBlockTokens), {2, 3}));
  next(step_of(1, kBlockTokens, {'a'}, {2, 3}));
  next(step_of(2, 0, {'q', 'q'}, {2}));
  EXPECT_THROW(next(step_of(1, kBlockTokens + 1, {'b'}, {2, 3})), std::logic_error);
}

TEST_F(ScriptRunnerTest, ThrowsWhenABlockIsOutsideThePool) {
  EXPECT_ANY_THROW(next(step_of(1, 0, prompt(3), {4})));
  EXPECT_ANY_THROW(next(step_of(1, 0, prompt(3), {-1})));
}

TEST(ScriptRunner, WithoutARuleEqualPromptsHaveEqualWords) {
  ScriptRunner runner({.num_blocks = 4});
  const auto first_token = [&runner](SequenceId id, const std::vector<TokenId>& tokens) {
    return runner.run(step_of(id, 0, tokens, {0})).rows.at(0).accepted.at(0).token;
  };
  EXPECT_EQ(first_token(1, {5, 6, 7}), first_token(2, {5, 6, 7}));
  std::vector<TokenId> firsts;
  for (TokenId id = 0; id < 20; ++id) firsts.push_back(first_token(10 + id, {id}));
  EXPECT_THAT(firsts, testing::Contains(testing::Ne(firsts[0])));
}

}  // namespace
}  // namespace tidemill
