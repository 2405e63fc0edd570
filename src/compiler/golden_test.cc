// Tiny random models of every family, as the reference implementation computes them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "compiler/golden.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// The repository's own copy of the Llama family, else the library of reference outputs.
fs::path tiny_dir() {
  const fs::path own = fs::path(TIDEMILL_SOURCE_DIR) / "tests" / "data" / "tiny";
  return fs::exists(own) ? own : reference_dir() / "tiny";
}

struct Prompt {
  std::vector<TokenId> ids;
  std::vector<TokenId> greedy_ids;
  std::vector<double> margins;  // first minus second logit at each greedy step
  std::vector<float> logits;    // of the last rows of the prompt, as many as are stored
};

struct Expectation {
  std::vector<Prompt> prompts;
  double largest_logit = 0.0;
};

Expectation read_expectation(const fs::path& dir) {
  const JsonValue json = read_json(dir / "expected.json");
  const StoredLogits stored(dir / "expected.safetensors");
  Expectation expected;
  expected.largest_logit = json.find("largest_logit")->number();
  for (const JsonValue& prompt : json.find("prompts")->array()) {
    const std::string name = "prompt" + std::to_string(expected.prompts.size());
    const bool every_position = expected.prompts.size() < 2;
    Prompt& added = expected.prompts.emplace_back();
    added.ids = ids_of(*prompt.find("ids"));
    added.greedy_ids = ids_of(*prompt.find("greedy_ids"));
    for (const JsonValue& margin : prompt.find("margins")->array()) {
      added.margins.push_back(margin.number());
    }
    added.logits = stored.values(name + (every_position ? ".logits" : ".last_logits"));
  }
  return expected;
}

constexpr int64_t kMaxTokens = 128;  // 70 of the longest prompt, 24 generated

struct Case {
  const char* folder = "";
  bool quantised_reference = false;  // quant/ instead of tiny/
  fs::path dir() const {
    return quantised_reference ? reference_dir() / "quant" / folder : tiny_dir() / folder;
  }
  // The folder; of a GGUF the file, because the expectation beside it looks like weights.
  fs::path checkpoint() const { return quantised_reference ? dir() / "model.gguf" : dir(); }
  friend std::ostream& operator<<(std::ostream& out, const Case& tested) {
    return out << tested.folder;
  }
};

// One folder in one variant.
class Golden {
 public:
  Golden(const Case& tested, const std::optional<PackedFormat>& format, const Kernels& kernels,
         WorkerPool& pool, const ModelOptions& options = {})
      : expected_(read_expectation(tested.dir())),
        compiled_(tested.checkpoint(), format, pool, options),
        kernels_(kernels),
        pool_(pool) {}

  const Expectation& expected() const { return expected_; }

  // The largest difference from the stored logits over all prompts.
  float largest_logit_difference() {
    float largest = 0.0f;
    for (const Prompt& prompt : expected_.prompts) {
      SequenceRun run = start();
      const std::vector<float> logits = run.feed(prompt.ids, num_scored(prompt));
      largest = std::max(largest, largest_difference(logits, prompt.logits));
    }
    return largest;
  }

  // The greedy continuation of a prompt that is prefilled in chunks of at most `chunk` tokens.
  std::vector<TokenId> greedy(const Prompt& prompt, size_t chunk) {
    SequenceRun run = start();
    std::vector<float> logits;
    for (size_t begin = 0; begin < prompt.ids.size(); begin += chunk) {
      const size_t count = std::min(chunk, prompt.ids.size() - begin);
      const bool last = begin + count == prompt.ids.size();
      logits = run.feed(std::span(prompt.ids).subspan(begin, count), last ? 1 : 0);
    }
    return run.greedy(std::move(logits), prompt.greedy_ids.size());
  }

 private:
  SequenceRun start() { return {kernels_, compiled_.model(), pool_, kMaxTokens}; }
  int64_t num_scored(const Prompt& prompt) const {
    return static_cast<int64_t>(prompt.logits.size()) / compiled_.model().architecture().vocab_size;
  }

  Expectation expected_;
  CompiledModel compiled_;
  const Kernels& kernels_;
  WorkerPool& pool_;
};

class GoldenModel : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!fs::exists(GetParam().dir())) GTEST_SKIP() << GetParam().dir() << " is not here";
  }
  WorkerPool pool_{{.num_threads = 2}};
};

TEST_P(GoldenModel, GivesTheReferencesLogitsInF32) {
  const float tolerance = GetParam().quantised_reference ? 5e-4f : 2e-4f;
  for (const Kernels* kernels : runnable_variants()) {
    Golden golden(GetParam(), PackedFormat::kF32, *kernels, pool_);
    EXPECT_LE(golden.largest_logit_difference(), tolerance) << kernels->name;
  }
}

TEST_P(GoldenModel, GivesTheReferencesGreedyTokensHoweverThePromptIsCut) {
  for (const Kernels* kernels : runnable_variants()) {
    Golden golden(GetParam(), PackedFormat::kF32, *kernels, pool_);
    for (const Prompt& prompt : golden.expected().prompts) {
      for (const size_t chunk : {size_t{kMaxTokens}, size_t{31}, size_t{5}}) {
        EXPECT_EQ(golden.greedy(prompt, chunk), prompt.greedy_ids)
            << kernels->name << ", " << prompt.ids.size() << " tokens in chunks of " << chunk;
      }
    }
  }
}

TEST_P(GoldenModel, IsNearTheReferenceInBf16) {
  for (const Kernels* kernels : runnable_implementations()) {
    Golden golden(GetParam(), PackedFormat::kBf16, *kernels, pool_);
    const double tolerance = 0.05 * golden.expected().largest_logit;
    const double difference = golden.largest_logit_difference();
    EXPECT_LE(difference, tolerance) << kernels->name;
    // The tokens agree up to the first step that was a near tie.
    for (const Prompt& prompt : golden.expected().prompts) {
      const auto tie = std::ranges::find_if(
          prompt.margins, [&](double margin) { return margin < 2.0 * difference; });
      const auto sure = static_cast<size_t>(tie - prompt.margins.begin());
      const std::vector<TokenId> ids = golden.greedy(prompt, kMaxTokens);
      EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(sure),
                             prompt.greedy_ids.begin()))
          << kernels->name;
    }
  }
}

std::string name_of_case(const testing::TestParamInfo<Case>& tested) {
  std::string name = tested.param.folder;
  std::ranges::replace(name, '-', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(LlamaFamily, GoldenModel,
                         testing::Values(Case{"llama"}, Case{"llama-gqa-llama3"},
                                         Case{"llama-bias"}, Case{"llama-yarn"}, Case{"codellama"},
                                         Case{"llama-new-config"}, Case{"llama-fp16"},
                                         Case{"llama-bf16"}, Case{"llama-sharded"}, Case{"mistral"},
                                         Case{"qwen2"}, Case{"qwen3"}),
                         name_of_case);
INSTANTIATE_TEST_SUITE_P(
    Gguf, GoldenModel,
    testing::Values(Case{"gguf-f16", true}, Case{"gguf-bf16", true}, Case{"gguf-q4_0", true},
                    Case{"gguf-q4_1", true}, Case{"gguf-q5_0", true}, Case{"gguf-q5_1", true},
                    Case{"gguf-q8_0", true}, Case{"gguf-q2-k-random", true},
                    Case{"gguf-q3-k-random", true}, Case{"gguf-q4-k-random", true},
                    Case{"gguf-q4-k-m-random", true}, Case{"gguf-q5-k-random", true},
                    Case{"gguf-q6-k-random", true}),
    name_of_case);

class GoldenIntegers : public GoldenModel {};

// The file's own integers, with inputs of 16 bits: what is left is the bf16 of keys and values.
TEST_P(GoldenIntegers, AsStoredAreThoseOfTheReference) {
  for (const Kernels* kernels : runnable_implementations()) {
    Golden golden(GetParam(), std::nullopt, *kernels, pool_, {.activation_bits = 16});
    EXPECT_LE(golden.largest_logit_difference(), 0.03 * golden.expected().largest_logit)
        << kernels->name;
  }
}

TEST_P(GoldenIntegers, AreNearTheReferenceWithInputsOfEightBits) {
  for (const Kernels* kernels : runnable_implementations()) {
    Golden golden(GetParam(), std::nullopt, *kernels, pool_);
    EXPECT_LE(golden.largest_logit_difference(), 0.06 * golden.expected().largest_logit)
        << kernels->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Gguf, GoldenIntegers,
                         testing::Values(Case{"gguf-q4_0", true}, Case{"gguf-q4_1", true},
                                         Case{"gguf-q5_0", true}, Case{"gguf-q5_1", true},
                                         Case{"gguf-q8_0", true}),
                         name_of_case);

TEST(GoldenRefusal, M_7_PicklesAreNotRead) {
  const fs::path dir = tiny_dir() / "llama-pickle-only";
  if (!fs::exists(dir)) GTEST_SKIP() << dir << " is not here";
  const TemporaryDir copy;  // without the expectation, which looks like weights
  for (const char* name : {"config.json", "pytorch_model.bin"}) {
    fs::copy_file(dir / name, copy.path() / name);
  }
  try {
    Checkpoint::open(copy.path());
    FAIL() << "accepted";
  } catch (const CheckpointError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(testing::HasSubstr("pickles"), testing::HasSubstr("safetensors")));
  }
}

}  // namespace
}  // namespace tidemill
