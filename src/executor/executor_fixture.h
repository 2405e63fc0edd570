// For tests: a running model whose network is a script. Everything but the arithmetic is real, and
// the script checks every step against what it saw written before (script_runner.h).
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "executor/byte_tokenizer.h"
#include "executor/executor.h"
#include "executor/script_runner.h"

namespace tidemill {

inline ScriptRule rule(std::string when, const std::string& reply) {
  ScriptRule rule{.when = std::move(when)};
  for (const char c : reply) rule.reply.push_back(static_cast<unsigned char>(c));
  rule.reply.push_back(kScriptEndId);
  return rule;
}

class ExecutorTest : public testing::Test {
 protected:
  void start(const Script& script, const ExecutorOptions& options = {}) {
    start(std::make_unique<ScriptRunner>(script), script, options);
  }
  void start(std::unique_ptr<StepRunner> runner, const Script& script, ExecutorOptions options) {
    options.max_model_len = script.max_model_len;
    options.scheduler.groups = {{.num_blocks = script.num_blocks}};
    executor_ = std::make_unique<Executor>(std::move(runner), text(), options, metrics_, "script");
  }

  static TextParts text() {
    static const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer_json());
    static const auto chat =
        std::make_shared<const ChatTemplate>(byte_chat_template(), JsonObject{});
    return {.tokenizer = tokenizer, .chat_template = chat, .end_ids = {kScriptEndId}};
  }

  GenerationRequest request(GenerationFields fields) {
    auto made = GenerationRequest::make(std::move(fields), {}, executor_->limits());
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }

  ResponseStream submit(GenerationFields fields) {
    auto stream = executor_->submit(request(std::move(fields)));
    EXPECT_TRUE(stream) << stream.error().message;
    return std::move(*stream);
  }

  static GenerationFields fields(std::string prompt) {
    return {.prompts = {TextPrompt{.text = std::move(prompt)}}, .temperature = 0};
  }

  struct Answer {
    std::vector<std::string> texts;
    std::vector<Finish> finishes;
    std::optional<Error> error;
  };
  static Answer read(ResponseStream& stream) {
    const auto choices = static_cast<size_t>(stream.num_choices());
    Answer answer{.texts = std::vector<std::string>(choices),
                  .finishes = std::vector<Finish>(choices)};
    for (;;) {
      const ResponseStream::Poll poll = stream.wait();
      for (const TextEvent& event : poll.events) {
        answer.texts[static_cast<size_t>(event.choice)] += event.text;
        if (event.finish) answer.finishes[static_cast<size_t>(event.choice)] = *event.finish;
      }
      if (poll.ended) {
        answer.error = poll.error;
        return answer;
      }
    }
  }
  Answer ask(GenerationFields of) {
    ResponseStream stream = submit(std::move(of));
    return read(stream);
  }

  // Waits until nothing runs, waits or holds a block.
  void expect_quiet() {
    for (int i = 0; i < 2000; ++i) {
      const ExecutorStats stats = executor_->stats();
      if (executor_->idle() && stats.running == 0 && stats.held_blocks == 0) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const ExecutorStats stats = executor_->stats();
    FAIL() << stats.running << " run, " << stats.waiting << " wait, " << stats.held_blocks
           << " blocks are held";
  }

  // The value of a metric, by its name and the labels behind the model's.
  int64_t count(const std::string& name, const std::string& labels = "") const {
    const std::string page = metrics_.text();
    const std::string key = name + "{model_name=\"script\",engine=\"0\"" + labels + "} ";
    const size_t at = page.find("\n" + key);
    EXPECT_NE(at, std::string::npos) << key;
    return at == std::string::npos ? -1 : std::stoll(page.substr(at + 1 + key.size()));
  }

  MetricsRegistry metrics_;
  std::unique_ptr<Executor> executor_;
};

}  // namespace tidemill
