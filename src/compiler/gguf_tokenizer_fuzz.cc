// The tokenizer inside a GGUF file: it becomes strict JSON that the text library reads, or is
// refused as the checkpoint's fault.
#include "base/fuzz_target.h"
#include "checkpoint/gguf.h"
#include "checkpoint/test_files.h"
#include "compiler/gguf_tokenizer.h"
#include "text/text_library.h"
#include "text/tokenizer.h"

namespace tidemill {
namespace {

GgufMaker tokenizer_of(const char* model, const std::vector<std::string>& tokens) {
  GgufMaker maker;
  std::string coded;
  std::string types;
  std::string scores;
  for (const std::string& token : tokens) {
    coded += GgufMaker::text(token);
    types += little_endian<int32_t>(token.starts_with('<') ? 3 : 1);
    scores += little_endian(-1.0f);
  }
  maker.key("tokenizer.ggml.model", GgufMaker::kString, GgufMaker::text(model));
  maker.array("tokenizer.ggml.tokens", GgufMaker::kString, tokens.size(), coded);
  maker.array("tokenizer.ggml.token_type", GgufMaker::kI32, tokens.size(), types);
  maker.array("tokenizer.ggml.scores", GgufMaker::kF32, tokens.size(), scores);
  maker.array("tokenizer.ggml.merges", GgufMaker::kString, 1, GgufMaker::text("a b"));
  maker.key("tokenizer.ggml.eos_token_id", GgufMaker::kU32, little_endian<uint32_t>(1));
  return maker;
}

}  // namespace

void fuzz_one(std::string_view input) {
  const SourceFile file(bytes_of(input), "x.gguf");
  std::optional<std::string> json;
  refusal_of([&] { json = gguf_tokenizer_json(read_gguf(file).metadata); });
  if (!json) return;
  CHECK(parse_json(*json, kFileJsonLimits).has_value(), "a tokenizer that is no strict JSON");
  if (!kHasTextLibrary) return;
  try {
    const Tokenizer tokenizer(*json);
    const auto ids = tokenizer.encode("ab <s> \u00e9", {});
    if (ids) tokenizer.decode(*ids, false);
  } catch (const std::runtime_error&) {  // one that was whole in the file, and is none
  }
}

std::vector<std::string> fuzz_seeds() {
  GgufMaker byte_level = tokenizer_of("gpt2", {"a", "<|end|>", "b", "ab"});
  byte_level.key("tokenizer.ggml.pre", GgufMaker::kString, GgufMaker::text("qwen2"));
  return {byte_level.file(), tokenizer_of("llama", {"<unk>", "<s>", "a", "b", "ab"}).file(),
          tokenizer_of("bert", {"a"}).file(), GgufMaker{}.file()};
}

}  // namespace tidemill
