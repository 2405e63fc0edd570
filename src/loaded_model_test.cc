// Nothing is global: two models in one process, on one worker pool, behind one port.
#include "loaded_model.h"

#include <gtest/gtest.h>

#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "server/test_server.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

class TwoModels : public ServerTest {
 protected:
  static constexpr std::array<const char*, 2> kNames = {"llama", "qwen2"};

  TwoModels() : cache_(fs::path(testing::TempDir()) / ("two-models-" + std::to_string(getpid()))) {
    for (const char* name : kNames) {
      Settings settings;
      settings.model.model_id = (fs::path(TIDEMILL_SOURCE_DIR) / "tests/data/tiny" / name).string();
      settings.model.model_name = name;
      settings.model.dtype = "fp32";
      settings.model.cache_dir = cache_.string();
      const size_t index = registry_.add(name, {name});
      models_.push_back(
          LoadedModel::load(settings, workers_, metrics_, [](std::string_view, int) {}));
      registry_.set_ready(index, models_.back()->facts(), models_.back()->executor());
    }
    listen({});
  }
  ~TwoModels() override { fs::remove_all(cache_); }

  // The log-probabilities that a model answers with, as text.
  std::string answer_of(const std::string& model) {
    const std::string body =
        R"({"model":")" + model +
        R"(","prompt":[69,217,58],"max_tokens":24,"temperature":0,"ignore_eos":true,"logprobs":0})";
    const std::string answer = exchange(post("/v1/completions", body, "Connection: close\r\n"));
    const size_t begin = answer.find("\"token_logprobs\":");
    EXPECT_NE(begin, std::string::npos) << answer;
    return answer.substr(begin, answer.find(']', begin) - begin);
  }

  const fs::path cache_;
  WorkerPool workers_{WorkerPoolOptions{.num_threads = 2}};
  std::vector<std::unique_ptr<LoadedModel>> models_;
};

TEST_F(TwoModels, AnswerSideBySideAsEachDoesAlone) {
  const std::array<std::string, 2> alone = {answer_of(kNames[0]), answer_of(kNames[1])};
  ASSERT_NE(alone[0], alone[1]);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < 8; ++i) {
    clients.emplace_back([&, which = i % 2] {
      for (int round = 0; round < 5; ++round) EXPECT_EQ(answer_of(kNames[which]), alone[which]);
    });
  }
  for (std::thread& client : clients) client.join();
}

}  // namespace
}  // namespace tidemill
