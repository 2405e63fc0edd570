// For tests: small tokenizers, as a tokenizer.json.
#pragma once

#include <string>

#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"

namespace tidemill {

// Every byte as a token (ids 0 to 255), written in GPT-2's alphabet.
inline JsonObject byte_vocabulary() {
  JsonObject vocabulary;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                        (byte >= 0xae && byte <= 0xff);
    std::string character;
    append_utf8(&character, itself ? byte : next++);
    vocabulary.emplace_back(character, static_cast<int64_t>(byte));
  }
  return vocabulary;
}

// Every byte is a token (ids 0 to 255); <|end|> is 256, <|user|> 257.
inline std::string byte_tokenizer() {
  const std::string model =
      "{\"type\":\"BPE\",\"vocab\":" + to_json(byte_vocabulary()) + ",\"merges\":[]}";
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

// Shows where words begin: bytes are ids 0 to 255 there and 256 to 511 elsewhere. `digits` is the
// pre-tokenizer in front of the byte level's own.
inline std::string word_tokenizer(std::string_view digits) {
  JsonObject vocabulary = byte_vocabulary();
  for (int byte = 0; byte < 256; ++byte) {
    vocabulary.emplace_back("##" + vocabulary[static_cast<size_t>(byte)].first, byte + 256);
  }
  return format(R"({{"version":"1.0","added_tokens":[],"pre_tokenizer":{{"type":"Sequence",)"
                R"("pretokenizers":[{},{{"type":"ByteLevel","add_prefix_space":false,)"
                R"("trim_offsets":true,"use_regex":true}}]}},"model":{{"type":"BPE",)"
                R"("continuing_subword_prefix":"##","vocab":{},"merges":[]}}}})",
                digits, to_json(vocabulary));
}

// Llama 2's kind: blanks are U+2581, one in front of a text; unknown characters become byte tokens.
inline std::string sentencepiece_tokenizer() {
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

// Unigram with a blank in front of a text (and of nothing else): every ASCII character is a token,
// <|user|> swallows the blanks behind it, </s> stands in the vocabulary, too.
inline std::string metaspace_tokenizer() {
  JsonArray vocabulary{JsonArray{"<unk>", -20}, JsonArray{"</s>", 0}, JsonArray{"\u2581", -3}};
  for (char c = '!'; c <= '~'; ++c) vocabulary.push_back(JsonArray{std::string(1, c), -3});
  const auto added = [](size_t id, const char* content, bool rstrip) {
    return format(
        "{{\"id\":{},\"content\":\"{}\",\"single_word\":false,\"lstrip\":false,"
        "\"rstrip\":{},\"normalized\":false,\"special\":true}}",
        id, content, rstrip);
  };
  const char* metaspace =
      "{\"type\":\"Metaspace\",\"replacement\":\"\u2581\",\"prepend_scheme\":\"first\","
      "\"split\":true}";
  return format(
      R"({{"version":"1.0","added_tokens":[{},{}],"pre_tokenizer":{},"decoder":{},"model":)"
      R"({{"type":"Unigram","unk_id":0,"byte_fallback":false,"vocab":{}}}}})",
      added(1, "</s>", false), added(vocabulary.size(), "<|user|>", true), metaspace, metaspace,
      to_json(vocabulary));
}

}  // namespace tidemill
