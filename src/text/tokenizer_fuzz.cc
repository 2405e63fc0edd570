// tokenizer.json: refused with a reason, or it encodes into ids of its own vocabulary and decodes
// into valid UTF-8. The library behind it is in Rust and is not instrumented: what is found there
// are panics, hangs and memory, not single bytes.
#include <stdexcept>

#include "base/fuzz_target.h"
#include "base/utf8.h"
#include "text/test_tokenizers.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

constexpr const char* kTexts[] = {"", "hello  world", "caf\u00e9 \U0001f600 <|end|> </s>\n\n"};
constexpr int32_t kLookedAt = 600;

void try_texts(const Tokenizer& tokenizer) {
  for (const char* text : kTexts) {
    for (const bool parse : {false, true}) {
      const auto ids = tokenizer.encode(text, {.parse_control_tokens = parse});
      if (!ids) continue;
      for (const TokenId id : *ids) {
        CHECK(id >= 0 && id < tokenizer.vocab_size(), "id {} of {}", id, tokenizer.vocab_size());
      }
      CHECK(!first_invalid_utf8(tokenizer.decode(*ids, parse)), "no UTF-8");
    }
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  try {
    const Tokenizer tokenizer(input);
    CHECK(tokenizer.vocab_size() >= 0, "{} tokens", tokenizer.vocab_size());
    try_texts(tokenizer);
    for (TokenId id = -1; id <= std::min(tokenizer.vocab_size(), kLookedAt); ++id) {
      tokenizer.token_bytes(id);
      CHECK(!first_invalid_utf8(tokenizer.decode(std::vector<TokenId>{id}, false)), "no UTF-8");
    }
    for (const ControlToken& token : tokenizer.control_tokens()) {
      CHECK(!token.spelling.empty() && token.mark.starts_with(kMarkBorder), "a mark is missing");
    }
  } catch (const std::runtime_error& error) {
    CHECK(std::string_view(error.what()).size() > 10, "no reason: {}", error.what());
  }
}

std::vector<std::string> fuzz_seeds() {
  const std::string added =
      R"({"id":2,"content":"<|end|>","single_word":false,"lstrip":false,"rstrip":true,)"
      R"("normalized":false,"special":true})";
  return {R"({"version":"1.0","added_tokens":[)" + added +
              R"(],"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":3},"merges":[["a","b"]]}})",
          R"({"model":{"type":"WordLevel","vocab":{"hello":0,"<unk>":1},"unk_token":"<unk>"},)"
          R"("pre_tokenizer":{"type":"Whitespace"}})",
          R"({"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",-20],["h",-1],["e",-2]]},)"
          R"("decoder":{"type":"Metaspace","replacement":"_","prepend_scheme":"first"}})",
          R"({"model":{"type":"WordPiece","vocab":{"[UNK]":0,"h":1,"##e":2},"unk_token":"[UNK]",)"
          R"("continuing_subword_prefix":"##","max_input_chars_per_word":100}})",
          R"({"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Replace",)"
          R"("pattern":{"Regex":"(a+)+$"},"content":"b"}]},"pre_tokenizer":{"type":"Split",)"
          R"("pattern":{"Regex":"\\s+|\\S"},"behavior":"Isolated","invert":false},)"
          R"("model":{"type":"BPE","vocab":{"a":0},"merges":[],"byte_fallback":true}})",
          byte_tokenizer(),
          sentencepiece_tokenizer(),
          metaspace_tokenizer()};
}

}  // namespace tidemill
