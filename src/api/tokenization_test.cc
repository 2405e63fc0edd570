#include "api/tokenization.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "api/test_model.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

using Answerer = Result<TokenizationAnswer> (*)(const JsonValue&, const ModelFacts&,
                                                const Executor&);

class Tokenization : public testing::Test {
 protected:
  std::string answer(Answerer answerer, std::string_view body) {
    const auto answer = answerer(*parse_json(body), model_.facts, model_.executor());
    EXPECT_TRUE(answer) << body << ": " << answer.error().message;
    return answer ? answer->body : "";
  }
  Error refusal(Answerer answerer, std::string_view body) {
    const auto answer = answerer(*parse_json(body), model_.facts, model_.executor());
    EXPECT_FALSE(answer) << body << " was accepted";
    return answer ? Error{} : answer.error();
  }

  TestModel model_{{script_rule("*", "a")}};
};

TEST_F(Tokenization, TheIdsOfATextAreCounted) {
  EXPECT_EQ(answer(answer_tokenize, R"({"prompt":"hi é","model":"m"})"),
            R"({"count":5,"max_model_len":4096,"tokens":[104,105,32,195,169],"token_strs":null})");
  EXPECT_THAT(answer(answer_tokenize, R"({"prompt":"hé","return_token_strs":true})"),
              HasSubstr(R"("token_strs":["h","bytes:\\xc3","bytes:\\xa9"])"));
}

// What the generation routes would use: asked with return_token_ids.
TEST_F(Tokenization, TO_2_TheIdsAreThoseOfTheGenerationRoutes) {
  for (const char* text : {"hi", "é世😀", "<|endoftext|>x"}) {
    const std::string prompt = to_json(JsonValue(text));
    const auto generated = parse_json(
        model_.answer(parse_openai_completion,
                      format(R"({{"prompt":{},"max_tokens":1,"return_token_ids":true}})", prompt)));
    const auto tokens = parse_json(answer(answer_tokenize, format(R"({{"prompt":{}}})", prompt)));
    EXPECT_EQ(*tokens->find("tokens"),
              *generated->find("choices")->array()[0].find("prompt_token_ids"));
    const std::string chat = format(R"({{"messages":[{{"role":"user","content":{}}}])", prompt);
    const auto chatted = parse_json(
        model_.answer(parse_openai_chat, chat + R"(,"max_tokens":1,"return_token_ids":true})"));
    const auto of_chat = parse_json(answer(answer_tokenize, chat + "}"));
    EXPECT_EQ(*of_chat->find("tokens"), *chatted->find("prompt_token_ids"));
    EXPECT_EQ(parse_json(answer(answer_detokenize,
                                format(R"({{"tokens":{}}})", to_json(*tokens->find("tokens")))))
                  ->find("prompt")
                  ->string(),
              text);
  }
}

TEST_F(Tokenization, TgisFormTellsThePlaces) {
  EXPECT_EQ(
      answer(answer_tokenize, R"({"inputs":"aé"})"),
      R"([{"id":97,"text":"a","start":0,"stop":1},)"
      R"({"id":195,"text":"�","start":1,"stop":2},{"id":169,"text":"�","start":1,"stop":2}])");
}

TEST_F(Tokenization, PlacesAreCodePointsOfTheText) {
  const auto places = [](std::string_view text, std::vector<TokenSpelling> tokens) {
    return token_places(text, tokens);
  };
  EXPECT_THAT(places("世界!", {{"<s>", true}, {"世"}, {"界!"}}),
              ElementsAre(TokenPlace{0, 0}, TokenPlace{0, 1}, TokenPlace{1, 3}));
  EXPECT_THAT(places("a b", {{" a"}, {" b"}}), ElementsAre(TokenPlace{0, 1}, TokenPlace{1, 3}));
  EXPECT_THAT(places("<s>a", {{"<s>", true}, {"a"}}),
              ElementsAre(TokenPlace{0, 3}, TokenPlace{3, 4}));
  EXPECT_THAT(places("a", {{"abc"}, {"d"}}), ElementsAre(TokenPlace{0, 1}, TokenPlace{1, 1}));
}

TEST_F(Tokenization, TO_1_OneFormIsNeeded) {
  EXPECT_EQ(refusal(answer_tokenize, "{}").kind, ErrorKind::kMissingParameter);
  for (const char* body : {R"({"prompt":"x","inputs":"y"})",
                           R"({"prompt":"x","messages":[{"role":"user","content":"x"}]})"}) {
    EXPECT_EQ(refusal(answer_tokenize, body).kind, ErrorKind::kInvalidParameter) << body;
  }
}

TEST_F(Tokenization, WhatIsWrongIsNamed) {
  EXPECT_EQ(refusal(answer_tokenize, R"({"prompt":5})").field, "prompt");
  EXPECT_EQ(refusal(answer_tokenize, R"({"messages":[]})").field, "messages");
  EXPECT_EQ(refusal(answer_tokenize, R"({"messages":[{"role":"king"}]})").field,
            "messages[0].role");
  EXPECT_EQ(refusal(answer_tokenize, R"({"prompt":"x","tools":[{}]})").field, "tools");
  EXPECT_EQ(
      refusal(answer_tokenize, format(R"({{"prompt":"{}"}})", std::string(200'000, 'x'))).kind,
      ErrorKind::kPromptTooLong);
  EXPECT_EQ(refusal(answer_detokenize, "{}").field, "tokens");
  EXPECT_EQ(refusal(answer_detokenize, R"({"tokens":"x"})").field, "tokens");
  EXPECT_EQ(refusal(answer_detokenize, R"({"tokens":[1,259]})").field, "tokens[1]");
  EXPECT_EQ(refusal(answer_detokenize, R"({"tokens":[-1]})").field, "tokens[0]");
}

TEST_F(Tokenization, TheTokenizerTellsOfItself) {
  model_.facts.special_tokens = JsonObject{{"bos_token", "<s>"}};
  model_.facts.chat_template = "{{ x }}";
  EXPECT_EQ(
      tokenizer_info_json(model_.facts, model_.executor().text()),
      R"({"tokenizer_class":null,"bos_token":"<s>","eos_token":"<|im_end|>","unk_token":null,)"
      R"("pad_token":null,"add_bos_token":false,"model_max_length":4096,)"
      R"("chat_template":"{{ x }}"})");
}

}  // namespace
}  // namespace tidemill
