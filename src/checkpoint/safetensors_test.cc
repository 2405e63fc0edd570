// Every row of the catalogue of hostile safetensors files, and what a valid one means.
#include "checkpoint/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

// The smallest useful file, as the format's description gives it.
constexpr std::string_view kHeader = R"({"a":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}  )";

std::string refused_file(std::string_view file) {
  const SourceFile source(bytes_of(file), "x.safetensors");
  return refusal_of([&] { read_safetensors(source); });
}
std::string refused_file(std::string_view header, size_t buffer_bytes) {
  return refused_file(safetensors_file(header, std::string(buffer_bytes, '\0')));
}
// One tensor "a" with that description, over a buffer of 4 bytes.
std::string refusal_of_tensor(std::string_view description) {
  return refused_file(format(R"({{"a":{}}})", description), 4);
}

TEST(Safetensors, ATensorIsItsNameTypeShapeAndBytes) {
  const SourceFile source(bytes_of(safetensors_file(kHeader, "wxyz")), "x.safetensors");
  ASSERT_EQ(source.size(), 68u);
  const auto tensors = read_safetensors(source);
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].type, StoredType::kF16);
  EXPECT_THAT(tensors[0].shape, ElementsAre(2));
  EXPECT_EQ(tensors[0].offset, 64u);
  EXPECT_EQ(text_of(tensors[0]), "wxyz");
  EXPECT_EQ(tensors[0].file(), "x.safetensors");
}

TEST(Safetensors, TheHeaderNeedsNeitherOrderNorAlignment) {
  const SourceFile source(
      bytes_of(safetensors_file(
          R"( {"b":{"shape":[1],"data_offsets":[1,5],"dtype":"F32"},)"
          R"("__metadata__":{"format":"pt"},"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})"
          "\n",
          "12345")),
      "x");
  const auto tensors = read_safetensors(source);
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a") << "in the order of the buffer";
  EXPECT_THAT(tensors[0].shape, IsEmpty()) << "a scalar";
  EXPECT_EQ(text_of(tensors[1]), "2345");
}

TEST(Safetensors, NoTensorsAndEmptyTensorsAreLegal) {
  const SourceFile nothing(bytes_of(safetensors_file("{}", "")), "x");
  EXPECT_THAT(read_safetensors(nothing), IsEmpty());
  const SourceFile empty(
      bytes_of(safetensors_file(R"({"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}})", "")),
      "x");
  const auto tensors = read_safetensors(empty);
  ASSERT_EQ(tensors.size(), 1u);
  EXPECT_EQ(tensors[0].bytes, 0u);
}

TEST(Safetensors, M_1_ALengthBeyondTheFileOrTheLimitIsRefusedBeforeItIsUsed) {
  EXPECT_THAT(refused_file("1234567"), AllOf(StartsWith("x.safetensors: at byte 0"),
                                             HasSubstr("shorter than its header's length")));
  EXPECT_THAT(refused_file(little_endian(~uint64_t{0}) + "{}"),
              HasSubstr("18446744073709551615 bytes"));
  for (const uint64_t allowed : {uint64_t{99'999'999}, uint64_t{100'000'000}}) {
    EXPECT_THAT(refused_file(little_endian(allowed) + "{}"), HasSubstr("and 2 are left"));
  }
  EXPECT_THAT(refused_file(little_endian(uint64_t{100'000'001})),
              HasSubstr("100000000 are allowed"));
  EXPECT_THAT(refused_file(little_endian(uint64_t{3}) + "{}"),
              AllOf(HasSubstr("at byte 8"), HasSubstr("the header needs 3 bytes, and 2 are left")));
  EXPECT_THAT(refused_file(safetensors_file("", "")), HasSubstr("header"));
}

TEST(Safetensors, M_1_AHeaderMustBeOneStrictJsonObject) {
  for (const std::string_view header :
       {"[]", "7", "{} x", "{}\xEF\xBB\xBF", "\xEF\xBB\xBF{}", "{\"a\xff\":0}", "{", "{,}",
        "{'a':1}", R"({"__metadata__":{"a":1}})", R"({"__metadata__":[]})",
        R"({"__metadata__":null})"}) {
    EXPECT_THAT(refused_file(header, 0), StartsWith("x.safetensors: ")) << header;
  }
  EXPECT_THAT(refused_file(std::string("{}\0", 3), 0), HasSubstr("follows the document"));
}

TEST(Safetensors, M_1_AKeyThatStandsTwiceIsRefusedAtEveryLevel) {
  EXPECT_THAT(refused_file(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},)"
                           R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                           4),
              HasSubstr("\"a\" stands twice"));
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"U8","shape":[1],"data_offsets":[0,4],"shape":[4]})"),
              HasSubstr("\"shape\" stands twice"));
  EXPECT_THAT(refused_file(R"({"__metadata__":{"k":"1","k":"2"}})", 0), HasSubstr("stands twice"));
}

TEST(Safetensors, DeepNestingEndsBeforeTheStackDoes) {
  EXPECT_THAT(refused_file(R"({"a":)" + std::string(5'000'000, '['), 0), HasSubstr("header"));
  EXPECT_THAT(refused_file(R"({"a":{"dtype":"U8","shape":[[[4]]],"data_offsets":[0,4]}})", 4),
              HasSubstr("header"));
}

TEST(Safetensors, NumbersAreIntegersFromZeroTo48Bits) {
  for (const char* number : {"-1", "4.0", "4e0", "\"4\"", "null", "true", "[4]", "{}",
                             "281474976710656", "9223372036854775808", "18446744073709551616"}) {
    const std::string shape =
        format(R"({{"dtype":"U8","shape":[{}],"data_offsets":[0,4]}})", number);
    EXPECT_NE(refusal_of_tensor(shape), "accepted") << shape;
    const std::string end = format(R"({{"dtype":"U8","shape":[4],"data_offsets":[0,{}]}})", number);
    EXPECT_NE(refusal_of_tensor(end), "accepted") << end;
  }
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"U8","shape":[-4],"data_offsets":[0,4]})"),
              HasSubstr("tensor \"a\": shapes and offsets must be integers from 0 to 2^48 - 1"));
}

TEST(Safetensors, ADescriptionIsCompleteAndHoldsNothingElse) {
  for (const char* description :
       {"7", "[]", "{}", R"({"dtype":"U8","shape":[4]})",
        R"({"dtype":"U8","shape":[4],"data_offsets":[0,4],"extra":1})",
        R"({"dtype":"U8","shape":[4],"offsets":[0,4]})",
        R"({"dtype":7,"shape":[4],"data_offsets":[0,4]})",
        R"({"dtype":"U8","shape":4,"data_offsets":[0,4]})",
        R"({"dtype":"U8","shape":[4],"data_offsets":[4]})",
        R"({"dtype":"U8","shape":[4],"data_offsets":[0,2,4]})",
        R"({"dtype":"U8","shape":[4,1,1,1,1,1,1,1,1],"data_offsets":[0,4]})"}) {
    EXPECT_THAT(refusal_of_tensor(description), StartsWith("x.safetensors: tensor \"a\": "))
        << description;
  }
}

TEST(Safetensors, M_1_AnUnknownTypeIsNamed) {
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"Q9","shape":[4],"data_offsets":[0,4]})"),
              HasSubstr("tensor \"a\": dtype Q9 is unknown"));
  EXPECT_EQ(refusal_of_tensor(R"({"dtype":"F4","shape":[8],"data_offsets":[0,4]})"), "accepted")
      << "a tensor that nobody asks for may be anything that the format knows";
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"F6_E2M3","shape":[5],"data_offsets":[0,4]})"),
              HasSubstr("do not fill whole bytes"));
}

TEST(Safetensors, M_1_I20_AShapeWhoseProductOverflowsIsRefused) {
  // 2^47 * 2^47 elements, and 2^47 * 2^16 elements of 4 bytes: the bytes overflow, not the product.
  EXPECT_THAT(
      refusal_of_tensor(
          R"({"dtype":"U8","shape":[140737488355328,140737488355328],"data_offsets":[0,4]})"),
      HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(
      refusal_of_tensor(R"({"dtype":"I32","shape":[140737488355328,65536],"data_offsets":[0,4]})"),
      HasSubstr("does not fit in 64 bits"));
}

TEST(Safetensors, M_1_OffsetsMustHoldExactlyTheShape) {
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"U8","shape":[3],"data_offsets":[0,4]})"),
              HasSubstr("its shape takes 3 bytes, and its offsets 0 to 4 do not"));
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"U8","shape":[4],"data_offsets":[4,0]})"),
              HasSubstr("offsets 4 to 0"));
  EXPECT_THAT(refusal_of_tensor(R"({"dtype":"U8","shape":[5],"data_offsets":[0,5]})"),
              HasSubstr("the tensors take 5 bytes, and the buffer has 4"));
}

TEST(Safetensors, M_1_TensorsNeitherOverlapNorLeaveHolesNorBytesBehindThem) {
  const auto two = [](int begin, int end) {
    return format(R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},)"
                  R"("b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
                  end - begin, begin, end);
  };
  EXPECT_EQ(refused_file(two(4, 8), 8), "accepted");
  EXPECT_THAT(refused_file(two(2, 8), 8),
              HasSubstr("tensor \"b\": it begins at 2 of the buffer; the one before ends at 4"));
  EXPECT_THAT(refused_file(two(5, 8), 8), HasSubstr("begins at 5"));
  EXPECT_THAT(refused_file(two(0, 4), 4), HasSubstr("begins at 0 of the buffer"));
  EXPECT_THAT(refused_file(two(4, 8), 9), HasSubstr("take 8 bytes, and the buffer has 9"));
  EXPECT_THAT(refused_file(two(4, 8), 7), HasSubstr("take 8 bytes, and the buffer has 7"));
  EXPECT_THAT(refused_file("{}", 1), HasSubstr("take 0 bytes, and the buffer has 1"));
}

TEST(Safetensors, ManyNamesForTheSameBytesAreRefused) {
  std::string header = "{";
  for (char name = 'a'; name < 'k'; ++name) {
    header += format(R"({}"{}":{{"dtype":"U8","shape":[16],"data_offsets":[0,16]}})",
                     name == 'a' ? "" : ",", name);
  }
  EXPECT_THAT(refused_file(header + "}", 16), HasSubstr("begins at 0 of the buffer"));
}

TEST(Safetensors, NamesAreShortAndHoldNoNul) {
  const auto named = [](const std::string& name) {
    return refused_file(
        format(R"({{"{}":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}}})", name), 4);
  };
  EXPECT_EQ(named(std::string(1024, 'n')), "accepted");
  EXPECT_THAT(named(std::string(1025, 'n')), HasSubstr("at most 1024 bytes"));
  EXPECT_THAT(named("a\\u0000b"), HasSubstr("no NUL"));
}

TEST(Safetensors, MoreThanAMillionTensorsAreRefused) {
  std::string header = "{";
  for (int i = 0; i <= 1'000'001; ++i) header += format("{}\"{}\":0", i == 0 ? "" : ",", i);
  EXPECT_THAT(refused_file(header + "}", 0),
              HasSubstr("one object holds more than 1000001 members"));
}

TEST(Safetensors, M_1_RandomDamageIsReadOrRefusedAndNeverMore) {
  const std::string valid = safetensors_file(
      R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]},)"
      R"("b":{"dtype":"F32","shape":[3],"data_offsets":[12,24]}})",
      std::string(24, 'z'));
  std::mt19937 random(1);
  int refused = 0;
  constexpr int kRounds = 5000;
  for (int round = 0; round < kRounds; ++round) {
    const SourceFile source(bytes_of(damaged(valid, valid.size() - 24, random)), "x");
    try {
      for (const StoredTensor& tensor : read_safetensors(source)) {
        ASSERT_LE(tensor.bytes, source.size());
        ASSERT_LE(tensor.offset, source.size() - tensor.bytes);
      }
    } catch (const CheckpointError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 2);
  EXPECT_LT(refused, kRounds) << "damage to the buffer alone is no damage";
}

TEST(ShardIndex, SaysWhichFileHoldsATensor) {
  const ShardIndex index = read_shard_index(
      R"({"metadata":{"total_size":1.5},"weight_map":{"a":"1.safetensors","b":"2.safetensors",)"
      R"("c":"1.safetensors"}})",
      "i");
  EXPECT_THAT(index.files, ElementsAre("1.safetensors", "2.safetensors"));
  EXPECT_THAT(index.file_of_tensor,
              ElementsAre(std::pair("a", "1.safetensors"), std::pair("b", "2.safetensors"),
                          std::pair("c", "1.safetensors")));
}

TEST(ShardIndex, M_6_OnlyPlainNamesOfSafetensorsAreFollowed) {
  for (const char* name :
       {"../x.safetensors", "/etc/x.safetensors", "a/x.safetensors", "a\\\\x.safetensors",
        "..safetensors", ".safetensors", "x.bin", "x.safetensors\\u0000", "", "x.safetensors.pt"}) {
    EXPECT_THAT(refusal_of([&] {
                  read_shard_index(format(R"({{"weight_map":{{"a":"{}"}}}})", name), "i.json");
                }),
                HasSubstr("i.json: tensor \"a\": its file must be a plain name"))
        << name;
  }
  for (const char* json : {"{}", "[]", "", R"({"weight_map":[]})", R"({"weight_map":{"a":7}})",
                           R"({"weight_map":{"a":"x.safetensors","a":"y.safetensors"}})"}) {
    EXPECT_THAT(refusal_of([&] { read_shard_index(json, "i.json"); }), StartsWith("i.json: "))
        << json;
  }
}

}  // namespace
}  // namespace tidemill
