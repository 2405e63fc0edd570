#include "executor/generation_request.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tidemill {
namespace {

TEST(GenerationRequest, P_2_EveryFieldOutsideItsRangeIsRefusedByName) {
  const RequestLimits limits{.max_model_len = 64, .vocab_size = 10, .has_tokenizer = true};
  const GenerationFields good{.prompts = {TokenPrompt{.ids = {1}}}};
  ASSERT_TRUE(GenerationRequest::make(good, {}, limits));
  const auto refused = [&](auto change) {
    GenerationFields bad = good;
    change(bad);
    const auto made = GenerationRequest::make(bad, {}, limits);
    return made ? std::string("accepted") : made.error().field;
  };
  EXPECT_EQ(refused([](auto& f) { f.prompts.clear(); }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts = {TokenPrompt{.ids = {}}}; }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts = {TokenPrompt{.ids = {10}}}; }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts = {TokenPrompt{.ids = {-1}}}; }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts = {ChatPrompt{}}; }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts.resize(33, f.prompts[0]); }), "prompt");
  EXPECT_EQ(refused([](auto& f) { f.prompts = {TextPrompt{.text = std::string(5000, 'x')}}; }),
            "prompt");
  EXPECT_EQ(refused([](auto& f) { f.max_new_tokens = -1; }), "max_tokens");
  EXPECT_EQ(refused([](auto& f) { f.min_new_tokens = 65; }), "min_tokens");
  EXPECT_EQ(refused([](auto& f) { f.temperature = -0.1; }), "temperature");
  EXPECT_EQ(refused([](auto& f) { f.temperature = 2.1; }), "temperature");
  EXPECT_EQ(refused([](auto& f) { f.temperature = std::nan(""); }), "temperature");
  EXPECT_EQ(refused([](auto& f) { f.top_k = -2; }), "top_k");
  EXPECT_EQ(refused([](auto& f) { f.top_p = 1.01; }), "top_p");
  EXPECT_EQ(refused([](auto& f) { f.num_choices = 0; }), "n");
  EXPECT_EQ(refused([](auto& f) { f.num_choices = 9; }), "n");
  EXPECT_EQ(refused([](auto& f) { f.num_logprobs = 21; }), "logprobs");
  EXPECT_EQ(refused([](auto& f) { f.stop_strings = {""}; }), "stop");
  EXPECT_EQ(refused([](auto& f) { f.stop_strings = {std::string(257, 'x')}; }), "stop");
  EXPECT_EQ(refused([](auto& f) { f.stop_strings.resize(17, "x"); }), "stop");
  EXPECT_EQ(refused([](auto& f) { f.stop_token_ids = {10}; }), "stop_token_ids");
  EXPECT_EQ(refused([](auto& f) { f.stop_token_ids.resize(65, 1); }), "stop_token_ids");
}

class Checks : public testing::Test {
 protected:
  static GenerationFields with_tokens() { return {.prompts = {TokenPrompt{.ids = {1}}}}; }
  static ChatPrompt chat(std::string content) {
    return {.messages = JsonArray{JsonObject{{"role", "user"}, {"content", std::move(content)}}}};
  }
  static std::optional<Error> problem(const GenerationFields& fields, const RequestLimits& limits) {
    const auto made = GenerationRequest::make(fields, {.max_new_tokens = "max_new_tokens"}, limits);
    return made ? std::nullopt : std::optional<Error>(made.error());
  }
  std::optional<Error> problem(const GenerationFields& fields) const {
    return problem(fields, limits_);
  }

  RequestLimits limits_{
      .max_model_len = 64, .vocab_size = 10, .has_tokenizer = true, .has_chat_template = true};
};

TEST_F(Checks, EveryBoundItselfIsAllowed) {
  const auto allowed = [this](auto change) {
    GenerationFields fields = with_tokens();
    change(fields);
    const auto error = problem(fields);
    EXPECT_FALSE(error) << error->message;
  };
  allowed([](auto& f) { f.prompts = {TokenPrompt{.ids = {0, 9}}}; });
  allowed([](auto& f) { f.prompts.resize(32, f.prompts[0]); });
  allowed([](auto& f) { f.prompts = {TextPrompt{.text = std::string(64 * 32, 'x')}}; });
  allowed([](auto& f) { f.max_new_tokens = 0; });
  allowed([](auto& f) { f.min_new_tokens = *(f.max_new_tokens = 7); });
  for (const double bound : {0.0, 2.0}) allowed([=](auto& f) { f.temperature = bound; });
  for (const double bound : {0.0, 1.0}) allowed([=](auto& f) { f.top_p = bound; });
  for (const int64_t bound : {-1, 0, 1 << 30}) allowed([=](auto& f) { f.top_k = bound; });
  for (const int64_t bound : {1, 8}) allowed([=](auto& f) { f.num_choices = bound; });
  for (const int64_t bound : {-1, 0, 20}) allowed([=](auto& f) { f.num_logprobs = bound; });
  allowed([](auto& f) { f.stop_strings.resize(16, std::string(256, 'x')); });
  allowed([](auto& f) { f.stop_token_ids = {0, 9}; });
  allowed([](auto& f) { f.stop_token_ids.resize(64, 1); });
}

// What a change is refused for: the field, or "" where it is allowed.
class Bounds : public Checks {
 protected:
  template <typename Change>
  std::string refused(Change change) const {
    GenerationFields fields = with_tokens();
    change(fields);
    const auto error = problem(fields);
    if (error) {
      EXPECT_EQ(error->kind, ErrorKind::kInvalidParameter);
    }
    return error ? error->field : "";
  }
};

TEST_F(Bounds, P_1_AFloatingParameterIsFiniteAndInItsRange) {
  struct Case {
    const char* name;
    double GenerationFields::*field;
    double least, most;
    bool open;  // the least itself is refused
  };
  const Case cases[] = {{"top_p", &GenerationFields::top_p, 0, 1, false},
                        {"min_p", &GenerationFields::min_p, 0, 1, false},
                        {"typical_p", &GenerationFields::typical_p, 0, 1, true},
                        {"repetition_penalty", &GenerationFields::repetition_penalty, 0, 10, true},
                        {"frequency_penalty", &GenerationFields::frequency_penalty, -2, 2, false},
                        {"presence_penalty", &GenerationFields::presence_penalty, -2, 2, false}};
  for (const auto& [name, field, least, most, open] : cases) {
    const auto with = [this, field = field](double value) {
      return refused([&](GenerationFields& f) { f.*field = value; });
    };
    EXPECT_EQ(with(std::nan("")), name);
    EXPECT_EQ(with(HUGE_VAL), name);
    EXPECT_EQ(with(-HUGE_VAL), name);
    EXPECT_EQ(with(std::nextafter(least, -99.0)), name);
    EXPECT_EQ(with(least), open ? name : "");
    EXPECT_EQ(with(std::nextafter(least, 99.0)), "") << name;
    EXPECT_EQ(with(std::nextafter(most, -99.0)), "") << name;
    EXPECT_EQ(with(most), "") << name;
    EXPECT_EQ(with(std::nextafter(most, 99.0)), name);
  }
}

TEST_F(Bounds, P_1_ABiasIsFiniteAndAtMostAHundred) {
  const auto bias = [this](double value) {
    return refused([&](auto& f) { f.logit_bias = {{1, 0.5}, {2, value}}; });
  };
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL, 100.001, -100.001}) {
    EXPECT_EQ(bias(bad), "logit_bias") << bad;
  }
  for (const double good : {-100.0, 0.0, 100.0}) EXPECT_EQ(bias(good), "") << good;
}

TEST_F(Bounds, P_2_ANumberOutsideItsBoundsIsRefusedByName) {
  const auto in_bounds = [this](const char* name, int64_t least, int64_t most, auto set) {
    const auto with = [&](int64_t value) {
      return refused([&](GenerationFields& f) { set(f, value); });
    };
    EXPECT_EQ(with(least - 1), name);
    EXPECT_EQ(with(least), "") << name;
    EXPECT_EQ(with(least + 1), "") << name;
    EXPECT_EQ(with(most - 1), "") << name;
    EXPECT_EQ(with(most), "") << name;
    EXPECT_EQ(with(most + 1), name);
  };
  in_bounds("priority", -100, 100, [](auto& f, int64_t v) { f.priority = v; });
  in_bounds("prompt_logprobs", -1, 20, [](auto& f, int64_t v) { f.num_prompt_logprobs = v; });
  in_bounds("truncate_prompt_tokens", 1, 64,
            [](auto& f, int64_t v) { f.truncate_prompt_tokens = v; });
  in_bounds("best_of", 1, 8, [](auto& f, int64_t v) { f.best_of = v; });
  in_bounds("logit_bias", 0, 9, [](auto& f, int64_t v) { f.logit_bias = {{v, 1.0}}; });
  in_bounds("allowed_token_ids", 0, 9, [](auto& f, int64_t v) { f.allowed_token_ids = {{3, v}}; });
  in_bounds("cache_salt", 1, 128,
            [](auto& f, int64_t v) { f.cache_salt = std::string(static_cast<size_t>(v), 's'); });
  in_bounds("bad_words", 1, 256,
            [](auto& f, int64_t v) { f.bad_words = {std::string(static_cast<size_t>(v), 'w')}; });
}

TEST_F(Bounds, P_2_ListsThatAreEmptyOrTooLongAreRefusedByName) {
  limits_.vocab_size = 2000;
  EXPECT_EQ(refused([](auto& f) { f.logit_bias.resize(1024, {1, 1.0}); }), "");
  EXPECT_EQ(refused([](auto& f) { f.logit_bias.resize(1025, {1, 1.0}); }), "logit_bias");
  EXPECT_EQ(refused([](auto& f) { f.allowed_token_ids.emplace(); }), "allowed_token_ids");
  EXPECT_EQ(refused([](auto& f) { f.allowed_token_ids.emplace(2000, 1); }), "");
  EXPECT_EQ(refused([](auto& f) { f.allowed_token_ids.emplace(2001, 1); }), "allowed_token_ids");
  EXPECT_EQ(refused([](auto& f) { f.bad_words.resize(16, "w"); }), "");
  EXPECT_EQ(refused([](auto& f) { f.bad_words.resize(17, "w"); }), "bad_words");
}

TEST_F(Bounds, P_3_AsManySequencesAsChoicesAreAllowed) {
  const auto best_of = [this](int64_t best, int64_t n) {
    return refused([&](auto& f) {
      f.best_of = best;
      f.num_choices = n;
    });
  };
  EXPECT_EQ(best_of(2, 3), "best_of") << "fewer than are shown";
  EXPECT_EQ(best_of(3, 3), "");
  EXPECT_EQ(best_of(4, 3), "");
  limits_.max_choices = 3;
  EXPECT_EQ(best_of(4, 3), "best_of");
  EXPECT_EQ(best_of(4, 4), "n") << "the first problem of the two";
}

TEST_F(Checks, BadWordsWithoutATokenizerHaveAWayOut) {
  limits_.has_tokenizer = false;
  GenerationFields fields = with_tokens();
  fields.bad_words = {"x"};
  const auto error = problem(fields);
  EXPECT_EQ(error->kind, ErrorKind::kUnsupportedContent);
  EXPECT_NE(error->message.find("logit_bias"), std::string::npos);
}

TEST_F(Checks, P_1_WhatIsNotANumberIsRefusedForItself) {
  for (const double value : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    GenerationFields fields = with_tokens();
    fields.max_temperature = HUGE_VAL;  // a dialect without a bound of its own
    fields.temperature = value;
    EXPECT_EQ(problem(fields)->field, "temperature");
    fields.temperature = 1;
    fields.top_p = value;
    EXPECT_EQ(problem(fields)->field, "top_p");
  }
}

TEST_F(Checks, ThePromptIsLookedAtFirst) {
  GenerationFields fields = with_tokens();
  fields.prompts = {TokenPrompt{.ids = {99}}};
  fields.temperature = -1;
  fields.stop_strings = {""};
  EXPECT_EQ(problem(fields)->field, "prompt");
  fields.prompts = {TokenPrompt{.ids = {1}}};
  EXPECT_EQ(problem(fields)->field, "temperature");
}

TEST_F(Checks, AMessageSaysWhatWasGivenAndWhatIsAllowed) {
  GenerationFields fields = with_tokens();
  fields.max_new_tokens = -3;
  EXPECT_EQ(problem(fields)->message.substr(0, 21), "max_new_tokens is -3;") << "its own name";
  fields.max_new_tokens = std::nullopt;
  fields.temperature = 2.5;
  EXPECT_EQ(problem(fields)->message,
            "temperature is 2.5; it must lie in 0 to 2. Use 0 for greedy decoding.");
}

TEST_F(Checks, TextWithoutATokenizerIsToldToSendIds) {
  limits_.has_tokenizer = false;
  const auto error = problem({.prompts = {TextPrompt{.text = "x"}}});
  EXPECT_EQ(error->kind, ErrorKind::kUnsupportedContent);
  EXPECT_NE(error->message.find("token ids"), std::string::npos);
  EXPECT_FALSE(problem(with_tokens()));
}

TEST_F(Checks, MessagesWithoutATemplateAreToldHowToSupplyOne) {
  EXPECT_FALSE(problem({.prompts = {chat("hi")}}));
  limits_.has_chat_template = false;
  const auto error = problem({.prompts = {chat("hi")}});
  EXPECT_EQ(error->kind, ErrorKind::kTemplateError);
  EXPECT_NE(error->message.find("chat_template="), std::string::npos);
}

TEST_F(Checks, MessagesHaveTheByteLimitOfAPrompt) {
  EXPECT_FALSE(problem({.prompts = {chat(std::string(64 * 32 - 4, 'x'))}}));
  const auto error = problem({.prompts = {chat(std::string(64 * 32 - 3, 'x'))}});
  EXPECT_EQ(error->kind, ErrorKind::kPromptTooLong);
}

TEST_F(Checks, K_1_BytesOfAPromptAreThoseOfItsTokensTimesASetting) {
  limits_.max_prompt_bytes_per_token = 5;  // 320 for 64 tokens
  for (const size_t bytes : {319, 320, 321}) {
    const std::string text(bytes, 'x');
    const std::string said(bytes - 4, 'x');  // beside the role
    for (const auto& error :
         {problem({.prompts = {TextPrompt{.text = text}}}), problem({.prompts = {chat(said)}})}) {
      EXPECT_EQ(error.has_value(), bytes > 320) << bytes;
      EXPECT_EQ(error ? error->kind : ErrorKind::kPromptTooLong, ErrorKind::kPromptTooLong);
    }
  }
}

TEST_F(Checks, ASeedIsKeptOrDrawn) {
  GenerationFields fields = with_tokens();
  const auto seed = [&] { return GenerationRequest::make(fields, {}, limits_)->seed(); };
  EXPECT_NE(seed(), seed());
  EXPECT_LT(seed(), uint64_t{1} << 53) << "a client reads it as a double";
  fields.seed = ~uint64_t{0};
  EXPECT_EQ(seed(), ~uint64_t{0});
}

}  // namespace
}  // namespace tidemill
