// For tests of the schemas: a model that is a script (executor/script_runner.h), asked with JSON
// and answered in bytes, as the HTTP side would.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "api/schema.h"
#include "executor/byte_tokenizer.h"
#include "executor/executor.h"
#include "executor/script_runner.h"

namespace tidemill {

using Parser = Result<ApiCall> (*)(const JsonValue&, const ModelFacts&, const RequestContext&);

// Every byte of `reply` is a token; the end of sequence follows.
inline ScriptRule script_rule(std::string when, std::string_view reply) {
  ScriptRule rule{.when = std::move(when)};
  for (const char c : reply) rule.reply.push_back(static_cast<unsigned char>(c));
  rule.reply.push_back(kScriptEndId);
  return rule;
}

class TestModel {
 public:
  explicit TestModel(std::vector<ScriptRule> rules) {
    static const auto tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer_json());
    static const auto chat =
        std::make_shared<const ChatTemplate>(byte_chat_template(), JsonObject{});
    ExecutorOptions options;
    options.max_model_len = 4096;
    options.scheduler.groups = {{.num_blocks = 1024}};
    // No token is computed before the last one was read: a stream comes in pieces, however slow the
    // reader is.
    options.stream_pause_bytes = 1;
    options.stream_resume_bytes = 1;
    const TextParts text{.tokenizer = tokenizer, .chat_template = chat, .end_ids = {kScriptEndId}};
    executor_ = std::make_unique<Executor>(
        std::make_unique<ScriptRunner>(Script{.rules = std::move(rules)}), text, options, metrics_,
        "m");
    facts.name = "m";
    facts.served_names = {"m"};
    facts.limits = executor_->limits();
    facts.system_fingerprint = "fp_0123456789ab";
  }

  static RequestContext context() {
    return {.unique_id = "0123456789abcdef01234567", .created = 1700000000};
  }

  Result<ApiCall> parse(Parser parser, std::string_view body) const {
    const auto json = parse_json(body);
    EXPECT_TRUE(json) << body;
    return parser(*json, facts, context());
  }

  // What was wrong with a body that has to be refused.
  Error refusal(Parser parser, std::string_view body) const {
    auto call = parse(parser, body);
    EXPECT_FALSE(call) << body << " was accepted";
    return call ? Error{} : call.error();
  }

  // The bytes of the answer, stream or not; "" when the body was refused.
  std::string answer(Parser parser, std::string_view body) {
    auto call = parse(parser, body);
    EXPECT_TRUE(call) << body << ": " << call.error().message;
    if (!call) return "";
    auto stream = executor_->submit(call->request);
    EXPECT_TRUE(stream) << stream.error().message;
    return stream ? read(*call, *stream) : "";
  }

  // How the format of that request spells those events.
  std::string spell(Parser parser, std::string_view body, std::span<const TextEvent> events) {
    auto call = parse(parser, body);
    EXPECT_TRUE(call) << body << ": " << call.error().message;
    auto stream = executor_->submit(call->request);
    call->format->begin(*stream);
    return call->format->whole(events, *stream);
  }

  // The same in pieces, one call of chunk() for each event.
  std::vector<std::string> spell_chunks(Parser parser, std::string_view body,
                                        std::span<const TextEvent> events) {
    auto call = parse(parser, body);
    EXPECT_TRUE(call) << body << ": " << call.error().message;
    auto stream = executor_->submit(call->request);
    call->format->begin(*stream);
    std::vector<std::string> chunks;
    for (const TextEvent& event : events) chunks.push_back(call->format->chunk({&event, 1}));
    return chunks;
  }

  const Executor& executor() const { return *executor_; }

  ModelFacts facts;

 private:
  static std::string read(ApiCall& call, ResponseStream& stream) {
    call.format->begin(stream);
    std::string bytes;
    std::vector<TextEvent> events;
    for (;;) {
      ResponseStream::Poll poll = stream.wait();
      if (call.stream) bytes += call.format->chunk(poll.events);
      for (TextEvent& event : poll.events) events.push_back(std::move(event));
      if (!poll.ended) continue;
      if (poll.error) return bytes + call.format->stream_error(*poll.error);
      return call.stream ? bytes + call.format->end(stream) : call.format->whole(events, stream);
    }
  }

  MetricsRegistry metrics_;
  std::unique_ptr<Executor> executor_;
};

// The JSON of each event of a stream; the end marker is checked and left out.
inline std::vector<JsonValue> events_of(std::string_view bytes) {
  constexpr std::string_view kDone = "data: [DONE]\n\n";
  EXPECT_TRUE(bytes.ends_with(kDone)) << bytes;
  std::vector<JsonValue> events;
  while (bytes != kDone && bytes.starts_with("data: ")) {
    const size_t end = bytes.find("\n\n");
    auto json = parse_json(bytes.substr(6, end - 6));
    EXPECT_TRUE(json) << bytes;
    if (!json || end == std::string_view::npos) break;
    events.push_back(std::move(*json));
    bytes.remove_prefix(end + 2);
  }
  return events;
}

}  // namespace tidemill
