// GGUF: every tensor lies inside its file and its numbers can be read; what the metadata say is a
// configuration, or refused with a message.
#include "base/fuzz_target.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

void check_tensor(const StoredTensor& tensor, const SourceFile& file) {
  CHECK(tensor.offset <= file.size() && tensor.bytes <= file.size() - tensor.offset,
        "{} bytes at {} of {}", tensor.bytes, tensor.offset, file.size());
  CHECK(!tensor.shape.empty() && tensor.shape.size() <= 4, "{} dimensions", tensor.shape.size());
  int64_t count = 1;
  for (const int64_t size : tensor.shape) count *= size;
  CHECK(count > 0 && static_cast<uint64_t>(count) <= 2 * file.size(), "{} numbers", count);
  if (tensor.shape.size() > 2) return;
  std::vector<float> numbers(static_cast<size_t>(count));
  refusal_of([&] {
    read_rows(tensor, 0, tensor.shape.size() == 2 ? tensor.shape[0] : 1, numbers.data());
  });
}

GgufMaker llama() {
  GgufMaker maker;
  maker.key("general.architecture", GgufMaker::kString, GgufMaker::text("llama"));
  for (const char* key : {"context_length", "embedding_length", "feed_forward_length",
                          "block_count", "attention.head_count", "attention.head_count_kv"}) {
    maker.key(std::string("llama.") + key, GgufMaker::kU32, little_endian<uint32_t>(2));
  }
  maker.key("llama.attention.layer_norm_rms_epsilon", GgufMaker::kF32, little_endian(1e-5f));
  maker.key("tokenizer.ggml.model", GgufMaker::kString, GgufMaker::text("gpt2"));
  maker.array("tokenizer.ggml.tokens", GgufMaker::kString, 2,
              GgufMaker::text("a") + GgufMaker::text("b"));
  maker.array("tokenizer.ggml.token_type", GgufMaker::kI32, 2,
              little_endian<int32_t>(1) + little_endian<int32_t>(3));
  maker.array("llama.rope.scaling", GgufMaker::kF32, 1, little_endian(1.0f));
  return maker;
}

}  // namespace

void fuzz_one(std::string_view input) {
  const SourceFile file(bytes_of(input), "x.gguf");
  GgufFile read;
  if (refusal_of([&] { read = read_gguf(file); }) != "accepted") return;
  for (const StoredTensor& tensor : read.tensors) check_tensor(tensor, file);
  for (const bool has_output : {false, true}) {
    JsonValue config;
    refusal_of([&] { config = config_from_gguf(read.metadata, has_output, 2, "x.gguf"); });
    CHECK(parse_json(to_json(config), kFileJsonLimits).has_value(), "no JSON, as a file would be");
  }
}

std::vector<std::string> fuzz_seeds() {
  GgufMaker whole = llama();
  whole.tensors = {{.name = "token_embd.weight", .dims = {2, 2}, .data = std::string(16, 'x')},
                   {.name = "q4", .dims = {32, 1}, .type = 2, .data = std::string(18, 'x')},
                   {.name = "q8", .dims = {32}, .type = 8, .data = std::string(34, 'x')},
                   {.name = "half", .dims = {3}, .type = 1, .data = std::string(6, 'x')}};
  GgufMaker counts = whole;
  counts.num_tensors = uint64_t{1} << 60;
  GgufMaker offset = whole;
  offset.tensors[1].offset = ~uint64_t{0} - 15;
  GgufMaker dims = whole;
  dims.tensors[0].dims = {int64_t{1} << 33, int64_t{1} << 33};
  return {llama().file(), whole.file(), counts.file(), offset.file(), dims.file()};
}

}  // namespace tidemill
