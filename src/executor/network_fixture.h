// For tests: a running model of random numbers, on workers that it may share with others.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "executor/executor.h"
#include "executor/network_runner.h"
#include "executor/random_engine.h"
#include "kernels/select.h"

namespace tidemill {

class RunningNetwork {
 public:
  // With scheduler.window the model has it, too, and a group whose blocks are freed behind it.
  // With scheduler.draft_model_cost a model of `draft_seed` makes drafts.
  RunningNetwork(uint64_t model_seed, WorkerPool& workers, int64_t num_blocks,
                 SchedulerOptions scheduler, bool watches_cores = false, uint64_t draft_seed = 1,
                 int32_t draft_vocab_size = kRandomVocabSize)
      : engine_(model_seed, scheduler.window), model_(engine_.dir()) {
    scheduler.groups = {{.num_blocks = num_blocks, .window = scheduler.window}};
    const DecoderLimits limits{.max_model_len = kRandomModelLen,
                               .max_step_tokens = scheduler.max_step_tokens,
                               .max_score_rows = scheduler.max_score_rows()};
    const Kernels& kernels = select_kernels("reference");
    std::unique_ptr<DraftNetwork> drafts;
    if (scheduler.draft_model_cost > 0.0) {
      draft_engine_ = std::make_unique<RandomEngine>(draft_seed, /*window=*/0, draft_vocab_size);
      draft_model_ = std::make_unique<Model>(draft_engine_->dir());
      drafts = std::make_unique<DraftNetwork>(kernels, workers, *draft_model_, limits, num_blocks,
                                              kRandomVocabSize);
      scheduler.draft_model_len = kRandomModelLen;
    }
    executor_ = std::make_unique<Executor>(
        std::make_unique<NetworkRunner>(kernels, workers, model_, limits, num_blocks, watches_cores,
                                        std::move(drafts)),
        TextParts{}, ExecutorOptions{.scheduler = scheduler, .max_model_len = kRandomModelLen},
        metrics_, "random");
  }

  ResponseStream submit(GenerationFields fields) {
    const auto request = GenerationRequest::make(std::move(fields), {}, executor_->limits());
    EXPECT_TRUE(request) << request.error().message;
    auto stream = executor_->submit(*request);
    EXPECT_TRUE(stream) << stream.error().message;
    return std::move(*stream);
  }
  ResponseStream submit(std::vector<TokenId> prompt, double temperature) {
    return submit({.prompts = {TokenPrompt{.ids = std::move(prompt)}},
                   .max_new_tokens = 40,
                   .temperature = temperature,
                   .seed = 17,
                   .num_logprobs = 0});
  }
  int64_t preemptions() const { return count("vllm:num_preemptions_total"); }
  int64_t count(const std::string& name) const {
    const std::string page = metrics_.text();
    const std::string key = "\n" + name + "{model_name=\"random\",engine=\"0\"} ";
    return std::stoll(page.substr(page.find(key) + key.size()));
  }
  // The loop publishes its counts a moment after the last token, or after many short steps.
  void expect_at_least(const std::string& name, int64_t least) {
    for (int i = 0; i < 2000 && count(name) < least; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_GE(count(name), least) << name;
  }
  // Waits until nothing runs, waits or holds a block.
  void expect_quiet() {
    for (int i = 0; i < 2000; ++i) {
      const ExecutorStats stats = executor_->stats();
      if (executor_->idle() && stats.running == 0 && stats.held_blocks == 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    FAIL() << executor_->stats().held_blocks << " blocks are held";
  }

 private:
  RandomEngine engine_;
  Model model_;
  std::unique_ptr<RandomEngine> draft_engine_;  // null where there is no draft model
  std::unique_ptr<Model> draft_model_;
  MetricsRegistry metrics_;
  std::unique_ptr<Executor> executor_;
};

// Token ids and the bits of their log-probabilities.
using TokenBits = std::vector<std::pair<TokenId, float>>;

// One list per choice.
inline std::vector<TokenBits> read_choices(ResponseStream& stream) {
  std::vector<TokenBits> choices(static_cast<size_t>(stream.num_choices()));
  for (;;) {
    const ResponseStream::Poll poll = stream.wait();
    EXPECT_FALSE(poll.error) << poll.error->message;
    for (const TextEvent& event : poll.events) {
      for (const TokenText& token : event.tokens) {
        choices.at(static_cast<size_t>(event.choice)).emplace_back(token.id, token.logprob);
      }
    }
    if (poll.ended) return choices;
  }
}

}  // namespace tidemill
