#ifndef TIDEMILL_NO_TEXT  // all of it needs the Rust library

#include "text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/json.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

using testing::HasSubstr;

constexpr const char* kChat =
    "{% for message in messages %}<|user|>{{ message.role }}: {{ message['content'].strip() }}"
    "<|end|>\n{% endfor %}\n{%- if add_generation_prompt %}<|user|>assistant:{% endif %}";

JsonValue messages(const char* content) {
  return JsonArray{JsonObject{{"role", "user"}, {"content", content}}};
}

TEST(ChatTemplate, MessagesAreRendered) {
  const ChatTemplate chat(kChat, JsonObject{});
  EXPECT_EQ(*chat.render(messages(" hi "), {}), "<|user|>user: hi<|end|>\n<|user|>assistant:");
  EXPECT_EQ(*chat.render(messages("hi"), {.add_generation_prompt = false}),
            "<|user|>user: hi<|end|>\n");
}

TEST(ChatTemplate, P_6_ControlTokensThatAUserSpellsArePlainText) {
  const Tokenizer tokenizer(byte_tokenizer());
  const ChatTemplate chat(kChat, JsonObject{});
  const auto ids = chat.encode(tokenizer, messages("x<|end|>y"), {.add_generation_prompt = false});
  ASSERT_TRUE(ids);
  EXPECT_EQ(std::count(ids->begin(), ids->end(), 256), 1);
  EXPECT_EQ(tokenizer.decode(*ids, false), "<|user|>user: x<|end|>y<|end|>\n");
}

TEST(ChatTemplate, AConversationWithoutControlTokensIsEncodedWhole) {
  const Tokenizer tokenizer(byte_tokenizer());
  const ChatTemplate chat(kChat, JsonObject{});
  EXPECT_EQ(*chat.encode(tokenizer, messages("é x"), {}),
            *tokenizer.encode(*chat.render(messages("é x"), {}), {}));
}

TEST(ChatTemplate, WhatATemplateRaisesIsTheMessage) {
  const ChatTemplate chat("{{ raise_exception('roles must alternate') }}", JsonObject{});
  const auto text = chat.render(messages("x"), {});
  ASSERT_FALSE(text);
  EXPECT_EQ(text.error().kind, ErrorKind::kTemplateError);
  EXPECT_THAT(text.error().message, HasSubstr("roles must alternate"));
}

TEST(ChatTemplate, C_1_EndlessTemplatesEnd) {
  const char* const endless[] = {
      "{% for a in range(100000) %}{% for b in range(100000) %}{{ a }}{% endfor %}{% endfor %}",
      "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}",
      "{% for a in range(9999) %}{{ 'x' * 100000 }}{% endfor %}",
  };
  for (const char* source : endless) {
    EXPECT_FALSE(ChatTemplate(source, JsonObject{}).render(messages("x"), {})) << source;
  }
}

TEST(ChatTemplate, WhatTemplatesInTheWildUseIsThere) {
  const std::pair<const char*, const char*> cases[] = {
      {"{{ bos_token }}{{ messages[0]['content'] | trim }}", "<s>hi"},
      {"{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}"
       "{{ ns.n }}",
       "1"},
      {"{{ messages | tojson }}", R"([{"role": "user", "content": "hi"}])"},
      {"{{ messages[0] | tojson(indent=2) }}",
       "{\n  \"role\": \"user\",\n  \"content\": \"hi\"\n}"},
      {"{% generation %}a{% endgeneration %}b", "ab"},
      {"{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}x{% endfor %}y", "y"},
      {"{{ 'a,b'.split(',')[1] }}{{ 'x'.upper() }}{{ 'abc'.startswith('a') }}", "bXTrue"},
      {"{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
       "role=user;content=hi;"},
      {"{{ messages[0]['content'][:1] }}{{ messages[::-1][0].role }}", "huser"},
      {"{% if tools is none and custom_thing is not defined %}ok{% endif %}", "ok"},
      {"{{ strftime_now('%Y')|length }}", "4"},
      {"  {% if true %}\na\n  {% endif %}\n", "a\n"},
  };
  for (const auto& [source, expected] : cases) {
    const auto text =
        ChatTemplate(source, JsonObject{{"bos_token", "<s>"}}).render(messages("hi"), {});
    ASSERT_TRUE(text) << source << ": " << text.error().message;
    EXPECT_EQ(*text, expected) << source;
  }
}

TEST(ChatTemplate, C_2_ExtraVariablesMayNotReplaceTheConversation) {
  const ChatTemplate chat("{{ thinking }}", JsonObject{{"bos_token", "<s>"}});
  EXPECT_EQ(*chat.render(messages("x"), {.kwargs = JsonObject{{"thinking", "on"}}}), "on");
  EXPECT_FALSE(chat.render(messages("x"), {.kwargs = JsonObject{{"messages", "m"}}}));
  EXPECT_FALSE(chat.render(messages("x"), {.kwargs = JsonObject{{"bos_token", "m"}}}));
}

TEST(ChatTemplate, AContinuedMessageEndsThePrompt) {
  const ChatTemplate chat(kChat, JsonObject{});
  EXPECT_EQ(*chat.render(messages("to be"), {.continue_final_message = true}),
            "<|user|>user: to be");
}

TEST(ChatTemplate, AContinuedListOfPartsEndsBehindItsLast) {
  const ChatTemplate chat("{% for p in messages[0].content %}{{ p.text }}{% endfor %}<|end|>",
                          JsonObject{});
  const JsonValue messages = JsonArray{JsonObject{
      {"role", "assistant"},
      {"content", JsonArray{JsonObject{{"text", "to be "}}, JsonObject{{"text", "or not "}}}}}};
  EXPECT_EQ(*chat.render(messages, {.continue_final_message = true}), "to be or not");
}

TEST(ChatTemplate, WhetherATemplateGoesOverPartsIsFound) {
  EXPECT_FALSE(ChatTemplate(kChat, JsonObject{}).iterates_over_content());
  const char* parts =
      "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
      "{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}";
  EXPECT_TRUE(ChatTemplate(parts, JsonObject{}).iterates_over_content());
}

TEST(ChatTemplate, ATemplateThatDoesNotCompileIsRefused) {
  EXPECT_THROW(ChatTemplate("{% if %}", JsonObject{}), std::runtime_error);
}

}  // namespace
}  // namespace tidemill

#endif
