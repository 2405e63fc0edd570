// The network under the executor: a small random model, so that what a request gets depends on its
// prompt, its seed and nothing else.
#include "executor/network_runner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "executor/executor.h"
#include "kernels/select.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxModelLen = 256;
constexpr int32_t kVocabSize = 61;

// An engine directory of random numbers; it disappears with this. Another seed, another model.
class RandomEngine {
 public:
  explicit RandomEngine(uint64_t seed)
      : dir_(fs::temp_directory_path() /
             ("tidemill-runner-" + std::to_string(::getpid()) + "-" + std::to_string(seed))),
        random_(seed) {
    fs::create_directories(dir_);
    Manifest manifest;
    manifest.format = PackedFormat::kF32;
    Architecture& a = manifest.architecture;
    a.family = "llama";
    a.hidden_size = 32;
    a.num_layers = 2;
    a.num_heads = a.num_kv_heads = 2;
    a.head_dim = 16;
    a.intermediate_size = 48;
    a.vocab_size = kVocabSize;
    a.max_positions = kMaxModelLen;
    manifest.tensors = engine_tensors(a, manifest.format);
    std::string file(static_cast<size_t>(weights_file_bytes(manifest.tensors)), '\0');
    for (const EngineTensor& tensor : manifest.tensors) fill(tensor, file.data() + tensor.offset);
    std::ofstream(dir_ / kWeightsFileName, std::ios::binary) << file;
    write_manifest(dir_, manifest);
  }
  RandomEngine(const RandomEngine&) = delete;
  RandomEngine& operator=(const RandomEngine&) = delete;
  ~RandomEngine() { fs::remove_all(dir_); }
  const fs::path& dir() const { return dir_; }

 private:
  void fill(const EngineTensor& tensor, char* out) {
    const float scale = tensor.k == 0 ? 1.0f : 2.5f / std::sqrt(static_cast<float>(tensor.k));
    std::uniform_real_distribution<float> values(-scale, scale);
    std::vector<float> numbers(static_cast<size_t>(tensor.n * std::max<int64_t>(tensor.k, 1)));
    for (float& number : numbers) number = values(random_);
    if (tensor.k == 0) {
      std::memcpy(out, numbers.data(), numbers.size() * sizeof(float));
      return;
    }
    const size_t bytes = panel_bytes(tensor.format, tensor.k);
    for (int64_t panel = 0; panel < num_panels(tensor.n); ++panel) {
      const int64_t first = panel * kPanelChannels;
      pack_panel(tensor.format, tensor.k, numbers.data() + first * tensor.k,
                 std::min(kPanelChannels, tensor.n - first),
                 reinterpret_cast<unsigned char*>(out) + static_cast<size_t>(panel) * bytes);
    }
  }
  const fs::path dir_;
  std::mt19937_64 random_;
};

// A model with its executor, on workers that it may share.
class Running {
 public:
  Running(uint64_t model_seed, WorkerPool& workers, int64_t num_blocks, SchedulerOptions scheduler)
      : engine_(model_seed), model_(engine_.dir()) {
    scheduler.groups = {{.num_blocks = num_blocks}};
    const DecoderLimits limits{.max_model_len = kMaxModelLen,
                               .max_step_tokens = scheduler.max_step_tokens,
                               .max_score_rows = scheduler.max_sequences};
    executor_ = std::make_unique<Executor>(
        std::make_unique<NetworkRunner>(select_kernels("reference"), workers, model_, limits,
                                        num_blocks),
        TextParts{}, ExecutorOptions{.scheduler = scheduler, .max_model_len = kMaxModelLen},
        metrics_, "random");
  }

  ResponseStream submit(std::vector<TokenId> prompt, double temperature) {
    const auto request =
        GenerationRequest::make({.prompts = {TokenPrompt{.ids = std::move(prompt)}},
                                 .max_new_tokens = 40,
                                 .temperature = temperature,
                                 .seed = 17,
                                 .num_logprobs = 0},
                                {}, executor_->limits());
    EXPECT_TRUE(request) << request.error().message;
    auto stream = executor_->submit(*request);
    EXPECT_TRUE(stream) << stream.error().message;
    return std::move(*stream);
  }
  int64_t preemptions() const {
    const std::string page = metrics_.text();
    const std::string key = "\nvllm:num_preemptions_total{model_name=\"random\",engine=\"0\"} ";
    return std::stoll(page.substr(page.find(key) + key.size()));
  }

 private:
  RandomEngine engine_;
  Model model_;
  MetricsRegistry metrics_;
  std::unique_ptr<Executor> executor_;
};

// Token ids and the bits of their log-probabilities.
using Answer = std::vector<std::pair<TokenId, float>>;

Answer read(ResponseStream stream) {
  Answer answer;
  for (;;) {
    const ResponseStream::Poll poll = stream.wait();
    EXPECT_FALSE(poll.error) << poll.error->message;
    for (const TextEvent& event : poll.events) {
      for (const TokenText& token : event.tokens) answer.emplace_back(token.id, token.logprob);
    }
    if (poll.ended) return answer;
  }
}

std::vector<TokenId> prompt(int length, int which) {
  std::vector<TokenId> ids;
  for (int i = 0; i < length; ++i) ids.push_back((i * i + 7 * which + 3) % kVocabSize);
  return ids;
}

class NetworkRunnerTest : public testing::TestWithParam<double> {
 protected:
  WorkerPool workers_{{.num_threads = 2, .pin = false}};
};

TEST_P(NetworkRunnerTest, AnAnswerIsTheSameBitsAloneInACrowdAndAfterPreemption) {
  std::vector<Answer> alone;
  {
    Running roomy(1, workers_, 64, {.prefix_cache = false});
    for (int i = 0; i < 6; ++i)
      alone.push_back(read(roomy.submit(prompt(20 + 7 * i, i), GetParam())));
    EXPECT_EQ(roomy.preemptions(), 0);
    EXPECT_EQ(alone[0].size(), 40u);
    EXPECT_NE(alone[0], alone[1]);
  }
  Running tight(1, workers_, 9, {.max_step_tokens = 48, .min_chunk_tokens = 32});
  std::vector<ResponseStream> streams;
  for (int i = 0; i < 6; ++i) streams.push_back(tight.submit(prompt(20 + 7 * i, i), GetParam()));
  for (size_t i = 0; i < streams.size(); ++i) EXPECT_EQ(read(std::move(streams[i])), alone[i]);
  // The loop publishes its counts a moment after the last token.
  for (int i = 0; i < 2000 && tight.preemptions() == 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  EXPECT_GT(tight.preemptions(), 0);
}

TEST_P(NetworkRunnerTest, APrefixThatIsFoundChangesNothing) {
  Running running(1, workers_, 64, {});
  const Answer cold = read(running.submit(prompt(100, 1), GetParam()));
  ResponseStream warm = running.submit(prompt(100, 1), GetParam());
  while (warm.cached_tokens() == 0) std::this_thread::yield();
  EXPECT_EQ(warm.cached_tokens(), 96);
  EXPECT_EQ(read(std::move(warm)), cold);
}

TEST_P(NetworkRunnerTest, TwoModelsOnTheSameWorkersDoNotKnowOfEachOther) {
  std::vector<Answer> alone;
  for (const uint64_t model : {1, 2}) {
    Running running(model, workers_, 16, {});
    alone.push_back(read(running.submit(prompt(30, 0), GetParam())));
  }
  EXPECT_NE(alone[0], alone[1]);
  Running first(1, workers_, 16, {}), second(2, workers_, 16, {});
  ResponseStream of_first = first.submit(prompt(30, 0), GetParam());
  ResponseStream of_second = second.submit(prompt(30, 0), GetParam());
  EXPECT_EQ(read(std::move(of_first)), alone[0]);
  EXPECT_EQ(read(std::move(of_second)), alone[1]);
}

INSTANTIATE_TEST_SUITE_P(GreedyAndSeeded, NetworkRunnerTest, testing::Values(0.0, 0.9),
                         [](const auto& test) { return test.param == 0 ? "Greedy" : "Seeded"; });

}  // namespace
}  // namespace tidemill
