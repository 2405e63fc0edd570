#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "base/utf8.h"
#include "text/chat_template.h"
#include "text/detokenizer.h"
#include "text/stop_strings.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Every byte is a token (ids 0 to 255), written in GPT-2's alphabet; <|end|> is 256, <|user|> 257.
std::string byte_tokenizer() {
  JsonObject vocabulary;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                        (byte >= 0xae && byte <= 0xff);
    std::string character;
    append_utf8(&character, itself ? byte : next++);
    vocabulary.emplace_back(character, static_cast<int64_t>(byte));
  }
  const std::string model =
      "{\"type\":\"BPE\",\"vocab\":" + to_json(vocabulary) + ",\"merges\":[]}";
  const auto added = [](int id, const char* content) {
    return format(
        "{{\"id\":{},\"content\":\"{}\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":false,\"normalized\":false,\"special\":true}}",
        id, content);
  };
  const char* byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  return format(R"({{"version":"1.0","added_tokens":[{},{}],"pre_tokenizer":{},"decoder":{},)"
                R"("model":{}}})",
                added(256, "<|end|>"), added(257, "<|user|>"), byte_level, byte_level, model);
}

// Llama 2's kind: blanks are U+2581, one in front of a text; unknown characters become byte tokens.
std::string sentencepiece_tokenizer() {
  JsonObject vocabulary{{"<unk>", 0}, {"<s>", 1}, {"</s>", 2}};
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.emplace_back(format("<0x{:02X}>", byte), byte + 3);
  }
  int64_t id = 259;
  for (const char* piece : {"\u2581", "a", "b", "ab", "\u2581a", "\u2581ab"}) {
    vocabulary.emplace_back(piece, id++);
  }
  return R"({"version":"1.0","added_tokens":[],"normalizer":{"type":"Sequence","normalizers":[)"
         "{\"type\":\"Prepend\",\"prepend\":\"\u2581\"},{\"type\":\"Replace\",\"pattern\":"
         "{\"String\":\" \"},\"content\":\"\u2581\"}]},"
         R"("post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>",)"
         R"("type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"pair":[{"Sequence":{"id":"A",)"
         R"("type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[1],"tokens":["<s>"]}}},)"
         "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
         "{\"String\":\"\u2581\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":"
         "\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
         "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"
         "\"byte_fallback\":true,\"vocab\":" +
         to_json(vocabulary) +
         ",\"merges\":[[\"a\",\"b\"],[\"\u2581\",\"a\"],[\"\u2581\",\"ab\"]]}}";
}

TEST(Tokenizer, ControlTokensInATextAreParsedOnlyWhenAsked) {
  const Tokenizer tokenizer(byte_tokenizer());
  EXPECT_THAT(*tokenizer.encode("a<|end|>", {}), ElementsAre('a', 256));
  EXPECT_EQ(tokenizer.encode("a<|end|>", {.parse_control_tokens = false})->size(), 8u);
  EXPECT_THAT(tokenizer.control_tokens(), ElementsAre("<|end|>", "<|user|>"));
  EXPECT_TRUE(tokenizer.is_special(256));
  EXPECT_FALSE(tokenizer.is_special('a'));
}

TEST(Tokenizer, SpecialTokensAreAddedOnlyWhenAsked) {
  const Tokenizer tokenizer(sentencepiece_tokenizer());
  EXPECT_THAT(*tokenizer.encode("ab", {}), ElementsAre(1, 264));
  EXPECT_THAT(*tokenizer.encode("ab", {.add_special_tokens = false}), ElementsAre(264));
}

TEST(Tokenizer, BytesOfATokenAreThoseItStandsFor) {
  const Tokenizer bytes(byte_tokenizer());
  for (int byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(bytes.token_bytes(byte), std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(bytes.token_bytes(256), "<|end|>");
  EXPECT_EQ(bytes.token_bytes(258), std::nullopt);
  EXPECT_EQ(bytes.token_bytes(-1), std::nullopt);
  const Tokenizer pieces(sentencepiece_tokenizer());
  EXPECT_EQ(pieces.token_bytes(3 + 0xe2), "\xe2");
  EXPECT_EQ(pieces.token_bytes(264), " ab");
}

TEST(Tokenizer, TextThatIsNotUtf8IsRefused) {
  const Tokenizer tokenizer(byte_tokenizer());
  EXPECT_FALSE(tokenizer.encode("\xff", {}));
}

TEST(Tokenizer, IdsOutsideTheVocabularyDecodeToNothing) {
  const Tokenizer tokenizer(byte_tokenizer());
  const std::vector<TokenId> ids = {'a', 1 << 20, -5, 'b'};
  EXPECT_EQ(tokenizer.decode(ids, false), "ab");
}

TEST(Tokenizer, AFileThatIsNoTokenizerIsRefusedWithTheReason) {
  for (const char* text : {"", "{}", "{\"model\":5}", "\xff"}) {
    EXPECT_THROW(Tokenizer{text}, std::runtime_error) << text;
  }
}

TEST(Detokenizer, StreamedTextIsTheTextAtOnceAndWholeCharacters) {
  std::mt19937_64 random(3);
  const std::string files[] = {byte_tokenizer(), sentencepiece_tokenizer()};
  for (const std::string& file : files) {
    const Tokenizer tokenizer(file);
    for (int round = 0; round < 300; ++round) {
      std::vector<TokenId> ids;
      for (size_t i = random() % 40; i > 0; --i) {
        ids.push_back(
            static_cast<TokenId>(random() % static_cast<uint64_t>(tokenizer.vocab_size())));
      }
      if (round % 2 == 0) {  // text in many scripts instead of broken bytes
        std::string text;
        for (int i = 0; i < 10; ++i)
          append_utf8(&text, static_cast<uint32_t>(random() % 0x3000 + 32));
        ids = *tokenizer.encode(text, {.add_special_tokens = false});
      }
      Detokenizer detokenizer(&tokenizer, false);
      std::string streamed;
      for (const TokenId id : ids) {
        const std::string piece = detokenizer.push(id);
        EXPECT_FALSE(first_invalid_utf8(piece));
        streamed += piece;
      }
      streamed += detokenizer.finish();
      // Broken bytes may be grouped differently; whole text must be equal.
      if (round % 2 == 0) {
        EXPECT_EQ(streamed, tokenizer.decode(ids, false));
      }
    }
  }
}

TEST(Detokenizer, HalfACharacterIsHeldBackAndReleasedAtTheEnd) {
  const Tokenizer tokenizer(byte_tokenizer());
  Detokenizer detokenizer(&tokenizer, false);
  EXPECT_EQ(detokenizer.push(0xc3), "");
  EXPECT_EQ(detokenizer.push(0xa9), "é");
  EXPECT_EQ(detokenizer.push(0xf0), "");
  EXPECT_EQ(detokenizer.finish(), "\ufffd");
}

TEST(Detokenizer, ALeadingBlankSurvivesBehindAContext) {
  const Tokenizer tokenizer(sentencepiece_tokenizer());
  Detokenizer alone(&tokenizer, false);
  EXPECT_EQ(alone.push(264), "ab");
  Detokenizer behind(&tokenizer, false, {264});
  EXPECT_EQ(behind.push(264), " ab");
}

TEST(StopStrings, TextThatMightStillBecomeAStopStringIsHeldBack) {
  StopStrings stop({"END"});
  EXPECT_EQ(stop.push("the E"), "the ");
  EXPECT_EQ(stop.push("N"), "");
  EXPECT_EQ(stop.push("ergy"), "ENergy");
  EXPECT_EQ(stop.push("EN"), "");
  EXPECT_EQ(stop.finish(), "EN");
}

TEST(StopStrings, TheMatchThatEndsFirstWinsThenTheLongest) {
  StopStrings stop({"bcd", "abc", "c"});
  EXPECT_EQ(stop.push("xabcd"), "x");
  EXPECT_EQ(stop.matched(), "abc");
  EXPECT_EQ(stop.push("more"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, AKeptStopStringEndsTheText) {
  StopStrings stop({"."}, true);
  EXPECT_EQ(stop.push("a.b"), "a.");
}

// What StopStrings must do, on the whole text at once.
std::string cut(const std::string& text, const std::vector<std::string>& stops) {
  size_t best_end = std::string::npos, best_begin = text.size();
  for (const std::string& stop : stops) {
    const size_t begin = text.find(stop);
    if (begin == std::string::npos) continue;
    const size_t end = begin + stop.size();
    if (end < best_end || (end == best_end && begin < best_begin)) {
      best_end = end;
      best_begin = begin;
    }
  }
  return text.substr(0, best_begin);
}

TEST(StopStrings, PiecesGiveWhatASearchOfTheWholeTextGives) {
  std::mt19937_64 random(4);
  const auto random_text = [&](size_t length) {
    std::string text;
    for (; length > 0; --length) text += static_cast<char>('a' + random() % 3);
    return text;
  };
  for (int round = 0; round < 20000; ++round) {
    std::vector<std::string> stops;
    for (size_t i = random() % 3 + 1; i > 0; --i) stops.push_back(random_text(random() % 4 + 1));
    const std::string text = random_text(random() % 12);
    StopStrings stop(stops);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t length = std::min<size_t>(random() % 4 + 1, text.size() - at);
      out += stop.push(text.substr(at, length));
      at += length;
    }
    out += stop.finish();
    ASSERT_EQ(out, cut(text, stops)) << text;
  }
}

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

TEST(ChatTemplate, ControlTokensThatAUserSpellsArePlainText) {
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

TEST(ChatTemplate, EndlessTemplatesEnd) {
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

TEST(ChatTemplate, ExtraVariablesMayNotReplaceTheConversation) {
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
