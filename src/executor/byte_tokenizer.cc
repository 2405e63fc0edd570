#include "executor/byte_tokenizer.h"

#include "base/json.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

// GPT-2's spelling of bytes: printable Latin-1 as itself, the rest from U+0100 on.
JsonValue vocabulary() {
  JsonObject tokens;
  uint32_t next = 0x100;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) ||
                        (byte >= 0xae && byte <= 0xff);
    std::string character;
    append_utf8(&character, itself ? byte : next++);
    tokens.emplace_back(std::move(character), static_cast<int64_t>(byte));
  }
  return tokens;
}

JsonValue control_tokens() {
  JsonArray tokens;
  int64_t id = 256;
  for (const char* content : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    tokens.push_back(JsonObject{{"id", id++},
                                {"content", content},
                                {"single_word", false},
                                {"lstrip", false},
                                {"rstrip", false},
                                {"normalized", false},
                                {"special", true}});
  }
  return tokens;
}

}  // namespace

std::string byte_tokenizer_json() {
  const JsonValue byte_level = JsonObject{{"type", "ByteLevel"},
                                          {"add_prefix_space", false},
                                          {"trim_offsets", true},
                                          {"use_regex", true}};
  return to_json(JsonObject{
      {"version", "1.0"},
      {"added_tokens", control_tokens()},
      {"pre_tokenizer", byte_level},
      {"decoder", byte_level},
      {"model", JsonObject{{"type", "BPE"}, {"vocab", vocabulary()}, {"merges", JsonArray{}}}}});
}

std::string byte_chat_template() {
  return "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
         "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
}

}  // namespace tidemill
