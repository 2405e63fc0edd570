// Tokens to text as they arrive: pieces are whole characters, at most three bytes of one are held
// back, and joined they are what decoding all ids at once gives (where no character is broken:
// decoders group broken bytes differently).
#include "base/fuzz_target.h"
#include "base/utf8.h"
#include "text/detokenizer.h"
#include "text/test_tokenizers.h"

namespace tidemill {
namespace {

const Tokenizer& tokenizer_of(uint8_t kind) {
  static const Tokenizer tokenizers[] = {Tokenizer(byte_tokenizer()),
                                         Tokenizer(sentencepiece_tokenizer()),
                                         Tokenizer(metaspace_tokenizer())};
  return tokenizers[kind % std::size(tokenizers)];
}

std::vector<TokenId> ids_of(FuzzInput& in, const Tokenizer& tokenizer, bool from_text) {
  if (from_text) {
    const auto ids = tokenizer.encode(in.rest(), {.add_special_tokens = false});
    return ids ? *ids : std::vector<TokenId>{};
  }
  std::vector<TokenId> ids;
  while (!in.empty()) {
    const int two = in.byte() * 256 + in.byte();
    ids.push_back(two % (tokenizer.vocab_size() + 2));  // two of them are no tokens
  }
  return ids;
}

}  // namespace

void fuzz_one(std::string_view input) {
  FuzzInput in(input);
  const Tokenizer& tokenizer = tokenizer_of(in.byte());
  const uint8_t switches = in.byte();
  const bool skip = switches % 2 == 1;
  const std::vector<TokenId> ids = ids_of(in, tokenizer, switches % 4 < 2);
  Detokenizer detokenizer(&tokenizer, skip);
  std::string streamed;
  for (const TokenId id : ids) {
    const std::string piece = detokenizer.push(id);
    CHECK(!first_invalid_utf8(piece), "a piece is no whole character");
    streamed += piece;
  }
  streamed += detokenizer.finish();
  CHECK(!first_invalid_utf8(streamed), "the end is no whole character");
  const std::string whole = tokenizer.decode(ids, skip);
  if (whole.find("\ufffd") != std::string::npos) return;
  CHECK(streamed == whole, "streamed \"{}\", at once \"{}\"", streamed, whole);
}

std::vector<std::string> fuzz_seeds() {
  std::vector<std::string> seeds;
  for (char kind = 0; kind < 3; ++kind) {
    const std::string first(1, kind);
    seeds.push_back(first + std::string("\x00", 1) + "hello w\u00f6rld \U0001f600 <|end|>\n");
    seeds.push_back(first +
                    "\x01"
                    "  a ab <|user|> b");
    seeds.push_back(first + "\x02" + std::string("\x00\x41\x00\xc3\x00\xa9\x01\x00", 8));
    seeds.push_back(first + "\x03" + std::string("\x01\x08\x01\x09\x00\xe2\x00\x03", 8));
  }
  return seeds;
}

}  // namespace tidemill
