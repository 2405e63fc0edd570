// Whatever stands in whatever field: the body is accepted, or refused with a field and a message
// that can be sent.
#include <gtest/gtest.h>

#include <random>

#include "api/error.h"
#include "api/test_model.h"

namespace tidemill {
namespace {

constexpr const char* kNames[] = {"prompt",
                                  "messages",
                                  "inputs",
                                  "parameters",
                                  "stream",
                                  "temperature",
                                  "top_p",
                                  "top_k",
                                  "max_tokens",
                                  "max_new_tokens",
                                  "n",
                                  "best_of",
                                  "logprobs",
                                  "top_logprobs",
                                  "stop",
                                  "seed",
                                  "echo",
                                  "min_tokens",
                                  "stop_token_ids",
                                  "stream_options",
                                  "do_sample",
                                  "details",
                                  "role",
                                  "content",
                                  "type",
                                  "text",
                                  "tools",
                                  "logit_bias",
                                  "bad_words",
                                  "top_n_tokens",
                                  "prompt_logprobs",
                                  "truncate",
                                  "repetition_penalty",
                                  "output_formatter",
                                  "response_format",
                                  "stop_sequences",
                                  "tool_calls",
                                  "chat_template_kwargs",
                                  "continue_final_message"};
constexpr const char* kTexts[] = {"", "user", "assistant", "tool", "text", "json", "\x01é😀", "x"};

JsonValue random_value(std::mt19937& random, int depth) {
  switch (random() % (depth > 0 ? 9 : 7)) {
    case 0:
      return {};
    case 1:
      return random() % 2 == 0;
    case 2:
      return static_cast<int64_t>(random() % 4);
    case 3:
      return static_cast<int64_t>(random()) * random() * (random() % 2 == 0 ? 1 : -1);
    case 4:
      return static_cast<double>(random() % 40) / 10;
    case 5:
      return 1e300;
    case 6:
      return kTexts[random() % std::size(kTexts)];
    case 7: {
      JsonArray items;
      for (auto left = random() % 4; left > 0; --left) {
        items.push_back(random_value(random, depth - 1));
      }
      return items;
    }
    default: {
      JsonValue object = JsonObject{};
      for (auto left = random() % 5; left > 0; --left) {
        object.set(kNames[random() % std::size(kNames)], random_value(random, depth - 1));
      }
      return object;
    }
  }
}

JsonValue random_body(std::mt19937& random) {
  JsonValue body = JsonObject{};
  const JsonValue message = JsonObject{{"role", "user"}, {"content", "x"}};
  if (random() % 2 == 0) body.set("prompt", "x");
  if (random() % 2 == 0) body.set("inputs", "x");
  if (random() % 2 == 0) body.set("messages", JsonArray{message});
  for (auto left = random() % 4; left > 0; --left) {
    body.set(kNames[random() % std::size(kNames)], random_value(random, 3));
  }
  return body;
}

TEST(RandomBodies, AreAcceptedOrRefusedByName) {
  TestModel model({});
  std::mt19937 random(11);
  int accepted = 0;
  for (int i = 0; i < 20'000; ++i) {
    const JsonValue body = random_body(random);
    for (const Parser parser : {parse_openai_completion, parse_openai_chat, parse_lmi_invocation}) {
      const auto call = parser(body, model.facts, TestModel::context());
      if (call) {
        ++accepted;
        continue;
      }
      ASSERT_NE(call.error().field, "") << to_json(body);
      ASSERT_LT(call.error().message.size(), 400u) << to_json(body);
      for (const Dialect dialect : {Dialect::kOpenAi, Dialect::kLmi}) {
        ASSERT_TRUE(parse_json(error_answer(call.error(), dialect, "id").body)) << to_json(body);
      }
    }
  }
  EXPECT_GT(accepted, 5'000);
  EXPECT_LT(accepted, 55'000);
}

}  // namespace
}  // namespace tidemill
