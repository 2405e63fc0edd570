// A real model, end to end from its files to its logits. Needs the folder with the model in
// TIDEMILL_MODELS and the reference outputs; skips without.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "compiler/golden.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

fs::path models_dir() {
  const char* given = std::getenv("TIDEMILL_MODELS");
  return given != nullptr ? fs::path(given) : fs::path();
}

std::vector<double> log_softmax(std::span<const float> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(logit - largest);
  std::vector<double> result;
  for (const float logit : logits) result.push_back(logit - largest - std::log(sum));
  return result;
}

// A prompt of each kind, for what takes long.
const std::set<std::string> kFewPrompts = {"short-capital", "chat-explain", "code-python",
                                           "long-600"};

class SmolLm2 : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (models_dir().empty()) GTEST_SKIP() << "TIDEMILL_MODELS is not set";
    for (const fs::path& path : {models_dir() / GetParam(), reference_dir() / "smollm2"}) {
      if (!fs::exists(path)) GTEST_SKIP() << path << " is not here";
    }
  }

  // Calls `check` with the logits that each token of each prompt's continuation is chosen from,
  // that token, its log-probability in the reference, and where this is.
  void each_continuation(PackedFormat packed,
                         const std::function<void(std::span<const float>, TokenId, double,
                                                  const std::string&)>& check) {
    const CompiledModel compiled(models_dir() / GetParam(), packed, pool_);
    const JsonValue prompts = read_json(reference_dir() / "smollm2" / "greedy.json");
    for (const JsonValue& prompt : prompts.array()) {
      std::vector<TokenId> ids = ids_of(*prompt.find("ids"));
      const std::vector<TokenId> expected = ids_of(*prompt.find("greedy_ids"));
      ids.insert(ids.end(), expected.begin(), expected.end() - 1);
      SequenceRun run(select_kernels("auto"), compiled.model(), pool_,
                      static_cast<int64_t>(ids.size()));
      const std::vector<float> logits = run.feed(ids, static_cast<int64_t>(expected.size()));
      const size_t vocab_size = logits.size() / expected.size();
      for (size_t step = 0; step < expected.size(); ++step) {
        check(std::span(logits).subspan(step * vocab_size, vocab_size), expected[step],
              prompt.find("logprobs")->array()[step].number(),
              format("{}, step {}", prompt.find("name")->string(), step));
      }
    }
  }

  WorkerPool pool_{{.num_threads = 2}};
};

TEST_P(SmolLm2, GivesTheReferencesLogits) {
  const CompiledModel compiled(models_dir() / GetParam(), PackedFormat::kF32, pool_);
  const StoredLogits stored(reference_dir() / "smollm2" / "logits.safetensors");
  const JsonValue prompts = read_json(reference_dir() / "smollm2" / "greedy.json");
  size_t compared = 0;
  for (const JsonValue& prompt : prompts.array()) {
    const std::string& name = prompt.find("name")->string();
    if (!kFewPrompts.contains(name)) continue;
    const std::vector<TokenId> ids = ids_of(*prompt.find("ids"));
    SequenceRun run(select_kernels("auto"), compiled.model(), pool_,
                    static_cast<int64_t>(ids.size()));
    EXPECT_LE(largest_difference(run.feed(ids, 1), stored.values(name)), 2e-3f) << name;
    ++compared;
  }
  EXPECT_EQ(compared, kFewPrompts.size());
}

// Token by token.
TEST_P(SmolLm2, ContinuesPromptsAsTheReferenceDoes) {
  constexpr size_t kSteps = 64;
  const CompiledModel compiled(models_dir() / GetParam(), PackedFormat::kF32, pool_);
  const JsonValue prompts = read_json(reference_dir() / "smollm2" / "greedy.json");
  for (const JsonValue& prompt : prompts.array()) {
    if (!kFewPrompts.contains(prompt.find("name")->string())) continue;
    const std::vector<TokenId> ids = ids_of(*prompt.find("ids"));
    const std::vector<TokenId> expected = ids_of(*prompt.find("greedy_ids"));
    const JsonArray& logprobs = prompt.find("logprobs")->array();
    ASSERT_EQ(expected.size(), kSteps);

    SequenceRun run(select_kernels("auto"), compiled.model(), pool_,
                    static_cast<int64_t>(ids.size() + kSteps));
    size_t step = 0;
    double largest = 0.0;
    const auto observe = [&](std::span<const float> logits) {
      const double logprob = log_softmax(logits)[static_cast<size_t>(expected[step])];
      largest = std::max(largest, std::abs(logprob - logprobs[step].number()));
      ++step;
    };
    EXPECT_EQ(run.greedy(run.feed(ids, 1), kSteps, observe), expected)
        << prompt.find("name")->string();
    EXPECT_LE(largest, 1e-3) << prompt.find("name")->string();
  }
}

// Teacher forcing: one prefill of a prompt and the tokens that the reference continued it with.
// Where each of them is the largest behind those before it, it is what a greedy text would have.
TEST_P(SmolLm2, ChoosesEveryTokenOfTheReference) {
  each_continuation(PackedFormat::kF32, [](std::span<const float> logits, TokenId expected,
                                           double logprob, const std::string& where) {
    const auto largest = std::max_element(logits.begin(), logits.end());
    EXPECT_EQ(largest - logits.begin(), expected) << where;
    EXPECT_NEAR(log_softmax(logits)[static_cast<size_t>(expected)], logprob, 1e-3) << where;
  });
}

// The same; one near tie that falls the other way does not spoil what follows.
TEST_P(SmolLm2, IsNearTheReferenceInBf16) {
  each_continuation(PackedFormat::kBf16, [](std::span<const float> logits, TokenId expected,
                                            double logprob, const std::string& where) {
    EXPECT_NEAR(log_softmax(logits)[static_cast<size_t>(expected)], logprob, 0.3) << where;
  });
}

INSTANTIATE_TEST_SUITE_P(FromItsFiles, SmolLm2,
                         testing::Values("hf-f32", "SmolLM2-135M-Instruct.Q4_1.gguf"),
                         [](const testing::TestParamInfo<const char*>& form) {
                           return std::string(form.param).ends_with(".gguf") ? "Gguf"
                                                                             : "Safetensors";
                         });

}  // namespace
}  // namespace tidemill
