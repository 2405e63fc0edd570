// Hostile files of weights.
#include "compiler/hostile_models.h"

namespace tidemill::hostile {
namespace {

GgufMaker gguf_model() {
  GgufMaker maker;
  maker.key("general.architecture", GgufMaker::kString, GgufMaker::text("llama"));
  for (const char* key :
       {"block_count", "context_length", "embedding_length", "feed_forward_length"}) {
    maker.key(format("llama.{}", key), GgufMaker::kU32, little_endian(uint32_t{4}));
  }
  maker.key("llama.attention.head_count", GgufMaker::kU32, little_endian(uint32_t{2}));
  maker.key("llama.attention.layer_norm_rms_epsilon", GgufMaker::kF32, little_endian(1e-5f));
  maker.tensors = {{.name = "token_embd.weight", .dims = {4, 3}, .data = std::string(48, 'x')}};
  return maker;
}

GgufMaker gguf_tokens(const std::vector<std::string>& tokens) {
  GgufMaker maker = gguf_model();
  std::string coded;
  for (const std::string& token : tokens) coded += GgufMaker::text(token);
  maker.key("tokenizer.ggml.model", GgufMaker::kString, GgufMaker::text("gpt2"));
  maker.array("tokenizer.ggml.tokens", GgufMaker::kString, tokens.size(), coded);
  return maker;
}

// One GGUF tensor with that many dimensions, sizes and type.
std::function<void(Model&)> gguf_tensor(std::vector<int64_t> dims, int32_t type) {
  return [dims = std::move(dims), type](Model& model) {
    GgufMaker maker = gguf_model();
    maker.tensors.push_back({.name = "t", .dims = dims, .type = type, .data = "x"});
    model.gguf(maker);
  };
}

const std::string kOne = R"("dtype":"U8","shape":[4],"data_offsets":[0,4])";

std::vector<Row> safetensors_rows() {
  return {
      {"M_1_EmptyFile", file("model.safetensors", ""), "shorter than its header's length"},
      {"M_1_SevenBytes", file("model.safetensors", "1234567"), "shorter than its header's length"},
      {"M_1_HeaderOf2To64Bytes", file("model.safetensors", std::string(8, '\xff') + "{}"),
       "18446744073709551615 bytes"},
      {"M_1_HeaderBeyondTheFile",
       file("model.safetensors", little_endian<uint64_t>(1 << 20) + "{}"), "are left"},
      {"M_1_HeaderAboveTheFormatsLimit",
       file("model.safetensors", little_endian<uint64_t>(100'000'001) + "{}"),
       "100000000 are allowed"},
      {"M_1_HeaderIsNoObject", header("[]", 0), "header"},
      {"M_1_HeaderIsDeep", header(R"({"a":)" + std::string(1'000'000, '['), 0), "header"},
      {"M_1_HeaderIsNoUtf8", header("{\"a\xff\":0}", 0), "header"},
      {"M_1_HeaderWithByteOrderMark", header("\xEF\xBB\xBF{}", 0), "header"},
      {"M_1_SomethingBehindTheHeader", header("{} {}", 0), "follows the document"},
      {"M_1_NulBehindTheHeader", header(std::string("{}\0", 3), 0), "follows the document"},
      {"M_1_TensorTwice", header("{\"a\":{" + kOne + "},\"a\":{" + kOne + "}}"), "stands twice"},
      {"M_1_ShapeTwice",
       header(R"({"a":{"dtype":"U8","shape":[1],"shape":[4],"data_offsets":[0,4]}})"),
       "stands twice"},
      {"M_1_UnknownType", header(R"({"a":{"dtype":"Q9","shape":[4],"data_offsets":[0,4]}})"),
       "dtype Q9 is unknown"},
      {"M_1_NegativeSize", header(R"({"a":{"dtype":"U8","shape":[-4],"data_offsets":[0,4]}})"),
       "integers from 0 to 2^48 - 1"},
      {"M_1_SizeOfReal", header(R"({"a":{"dtype":"U8","shape":[4.0],"data_offsets":[0,4]}})"),
       "integers from 0 to 2^48 - 1"},
      {"M_1_SizeOf2To64",
       header(R"({"a":{"dtype":"U8","shape":[18446744073709551616],"data_offsets":[0,4]}})"),
       "does not fit in 64 bits"},
      {"M_1_ProductOverflows",
       header(R"({"a":{"dtype":"U8","shape":[140737488355328,140737488355328],)"
              R"("data_offsets":[0,4]}})"),
       "does not fit in 64 bits"},
      {"M_1_BytesOverflow",
       header(R"({"a":{"dtype":"I32","shape":[140737488355328,65536],"data_offsets":[0,4]}})"),
       "does not fit in 64 bits"},
      {"M_1_NineDimensions",
       header(R"({"a":{"dtype":"U8","shape":[4,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})"),
       "at most 8"},
      {"M_1_OffsetsBackwards", header(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[4,0]}})"),
       "offsets 4 to 0"},
      {"M_1_OffsetsBeyondTheFile",
       header(
           R"({"a":{"dtype":"U8","shape":[281474976710655],"data_offsets":[0,281474976710655]}})"),
       "the buffer has 4"},
      {"M_1_ShapeAndOffsetsDisagree",
       header(R"({"a":{"dtype":"F32","shape":[4],"data_offsets":[0,4]}})"),
       "its shape takes 16 bytes"},
      {"M_1_Overlap",
       header("{\"a\":{" + kOne + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})", 6),
       "the one before ends at 4"},
      {"M_1_Gap",
       header("{\"a\":{" + kOne + R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":[5,9]}})", 9),
       "begins at 5"},
      {"M_1_BytesBehindTheTensors", header("{\"a\":{" + kOne + "}}", 8), "the buffer has 8"},
      {"M_1_TensorNameWithNul", header("{\"a\\u0000b\":{" + kOne + "}}"), "no NUL"},
      {"M_1_TensorNameOf100000Bytes",
       header("{\"" + std::string(100'000, 'n') + "\":{" + kOne + "}}"), "at most 1024 bytes"},
      {"M_1_MetadataOfNumbers", header(R"({"__metadata__":{"a":1}})", 0), "metadata"},
  };
}

std::vector<Row> gguf_rows() {
  const auto with = [](std::function<void(GgufMaker&)> change) {
    return [change = std::move(change)](Model& m) {
      GgufMaker maker = gguf_model();
      change(maker);
      m.gguf(maker);
    };
  };
  const int64_t half = int64_t{1} << 62;
  return {
      {"M_1_GgufVersionOfTheOtherByteOrder", with([](auto& m) { m.version = 0x03000000; }),
       "big-endian"},
      {"M_1_GgufOf2To64Tensors", with([](auto& m) { m.num_tensors = ~uint64_t{0}; }),
       "18446744073709551615 tensors"},
      {"M_1_GgufOf2To63Keys", with([](auto& m) { m.num_keys = uint64_t{1} << 63; }),
       "9223372036854775808 keys"},
      {"M_1_GgufTextOf2To64Bytes",
       with([](auto& m) { m.key("k", GgufMaker::kString, little_endian(~uint64_t{0})); }),
       "18446744073709551615 bytes"},
      {"M_1_GgufTextWhoseLengthPlusOneIsZero",
       with([](auto& m) { m.keys.insert(m.keys.begin(), little_endian(~uint64_t{0}) + "key"); }),
       "18446744073709551615"},
      {"M_1_GgufArrayOf2To61Items",
       with([](auto& m) { m.array("k", GgufMaker::kU64, uint64_t{1} << 61, "12345678"); }),
       "2305843009213693952 items"},
      {"M_1_GgufArrayOfArrays",
       with([](auto& m) { m.array("k", GgufMaker::kArray, 1, std::string(32, '\0')); }),
       "an array of type 9"},
      {"M_1_GgufValueOfUnknownType", with([](auto& m) { m.key("k", 77, std::string(16, '\0')); }),
       "value type 77"},
      {"M_1_GgufKeyTwice",
       with([](auto& m) { m.key("general.architecture", GgufMaker::kU8, "1"); }), "stands twice"},
      {"M_1_GgufTensorTwice", with([](auto& m) { m.tensors.push_back(m.tensors[0]); }),
       "stands twice"},
      {"M_1_GgufHundredDimensions", gguf_tensor(std::vector<int64_t>(100, 1), 0), "100 dimensions"},
      {"M_1_GgufNoDimensions", gguf_tensor({}, 0), "0 dimensions"},
      {"M_1_GgufNegativeDimension", gguf_tensor({4, -1}, 0), "size -1 is not possible"},
      {"M_1_GgufZeroDimension", gguf_tensor({4, 0}, 0), "size 0 is not possible"},
      {"M_1_GgufProductOverflows", gguf_tensor({half, half}, 0), "is not possible"},
      {"M_1_GgufBytesOverflow", gguf_tensor({half}, 0), "does not fit in 64 bits"},
      {"M_1_GgufHugeTensor", gguf_tensor({int64_t{1} << 40}, 0), "4398046511104 bytes"},
      {"M_1_GgufHalfABlock", gguf_tensor({33}, 8), "no whole blocks"},
      {"M_1_GgufUnknownType", gguf_tensor({32}, 12345), "type 12345 is unknown"},
      {"M_1_GgufNegativeType", gguf_tensor({32}, -1), "type -1 is unknown"},
      {"M_1_GgufOffsetBeyondTheFile",
       with([](auto& m) { m.tensors[0].offset = ~uint64_t{0} - 31; }), "must begin at 0"},
      {"M_1_GgufAlignmentOfZero",
       with([](auto& m) { m.key("general.alignment", GgufMaker::kU32, std::string(4, '\0')); }),
       "power of two"},
      {"M_1_GgufAlignmentOf2To31", with([](auto& m) {
         m.key("general.alignment", GgufMaker::kU32, little_endian(uint32_t{1} << 31));
       }),
       "power of two"},
      {"M_1_GgufTruncated",
       [](Model& m) {
         m.gguf(gguf_model());
         fs::resize_file(m.opened, fs::file_size(m.opened) - 40);
       },
       "m.gguf"},
      {"M_3_GgufEpsilonIsNoNumber", with([](auto& m) {
         m.keys.pop_back();
         m.key("llama.attention.layer_norm_rms_epsilon", GgufMaker::kF32,
               little_endian(uint32_t{0x7fc00000}));
       }),
       "must be a number"},
      {"M_3_GgufWithoutHeads", with([](auto& m) { m.keys.erase(m.keys.begin() + 5); }),
       "attention.head_count"},
      {"M_3_GgufWithoutEmbedding", with([](auto& m) { m.tensors.clear(); }), "token_embd.weight"},
      {"M_3_GgufWithoutLayers", with([](auto&) {}), "tensors are missing"},
      {"M_5_GgufTokensBeyondTheEmbedding",
       [](Model& m) {
         m.gguf(gguf_tokens({"a", "b", "c", "d"}));
       },
       "there are 4 tokens"},
      {"M_6_GgufPartOfAMillion",
       [](Model& m) {
         m.gguf(gguf_model());
         fs::rename(m.opened, m.folder / "m-00001-of-99999.gguf");
         m.opened = m.folder / "m-00001-of-99999.gguf";
       },
       "99999 parts"},
  };
}

class HostileFile : public HostileModel {};
TEST_P(HostileFile, IsRefusedInTimeAndSaysWhy) { expect_refusal(); }
INSTANTIATE_TEST_SUITE_P(Safetensors, HostileFile, testing::ValuesIn(safetensors_rows()), kRowName);
INSTANTIATE_TEST_SUITE_P(Gguf, HostileFile, testing::ValuesIn(gguf_rows()), kRowName);

}  // namespace
}  // namespace tidemill::hostile
