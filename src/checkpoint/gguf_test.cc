// Every row of the catalogue of hostile GGUF files, and what a valid one means.
#include "checkpoint/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "checkpoint/test_files.h"

namespace tidemill {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

std::string refused_gguf(std::string_view file) {
  const SourceFile source(bytes_of(file), "m.gguf");
  return refusal_of([&] { read_gguf(source); });
}
std::string refused_gguf(const GgufMaker& maker) { return refused_gguf(maker.file()); }

// A matrix of 2 rows of 32 in Q8_0, and a vector of 3 floats.
GgufMaker two_tensors() {
  GgufMaker maker;
  maker.key("general.architecture", GgufMaker::kString, GgufMaker::text("llama"));
  maker.tensors = {{.name = "a", .dims = {32, 2}, .type = 8, .data = std::string(68, 'a')},
                   {.name = "b", .dims = {3}, .type = 0, .data = std::string(12, 'b')}};
  return maker;
}

GgufMaker with_tensor(std::vector<int64_t> dims, int32_t type, size_t num_bytes) {
  GgufMaker maker;
  maker.tensors = {
      {.name = "t", .dims = std::move(dims), .type = type, .data = std::string(num_bytes, 'x')}};
  return maker;
}

GgufMaker with_key(int32_t type, std::string_view value) {
  GgufMaker maker;
  maker.key("k", type, value);
  return maker;
}

TEST(Gguf, ATensorIsItsNameTypeShapeOutermostFirstAndBytes) {
  for (const uint32_t version : {2u, 3u}) {
    GgufMaker maker = two_tensors();
    maker.version = version;
    const SourceFile source(bytes_of(maker.file()), "m.gguf");
    const GgufFile file = read_gguf(source);
    ASSERT_EQ(file.tensors.size(), 2u);
    EXPECT_EQ(file.tensors[0].name, "a");
    EXPECT_EQ(file.tensors[0].type, StoredType::kQ8_0);
    EXPECT_THAT(file.tensors[0].shape, ElementsAre(2, 32));
    EXPECT_EQ(file.tensors[0].bytes, 68u);
    EXPECT_EQ(file.tensors[1].offset - file.tensors[0].offset, 96u) << "padded to 32";
    EXPECT_EQ(text_of(file.tensors[1]).at(11), 'b');
    EXPECT_EQ(file.tensors[1].file(), "m.gguf");
  }
}

TEST(Gguf, EveryReadableTypeHasItsOwnBlockSize) {
  struct Form {
    int32_t id;
    StoredType type;
    size_t bytes;  // of 32 elements
  };
  for (const Form form : {Form{0, StoredType::kF32, 128}, Form{1, StoredType::kF16, 64},
                          Form{2, StoredType::kQ4_0, 18}, Form{3, StoredType::kQ4_1, 20},
                          Form{6, StoredType::kQ5_0, 22}, Form{7, StoredType::kQ5_1, 24},
                          Form{8, StoredType::kQ8_0, 34}, Form{26, StoredType::kI32, 128},
                          Form{28, StoredType::kF64, 256}, Form{30, StoredType::kBf16, 64}}) {
    const SourceFile source(bytes_of(with_tensor({32}, form.id, form.bytes).file()), "m");
    const GgufFile file = read_gguf(source);
    EXPECT_EQ(file.tensors.at(0).type, form.type);
    EXPECT_EQ(file.tensors.at(0).bytes, form.bytes) << name_of(form.type);
  }
}

TEST(Gguf, MetadataKeepsItsTypes) {
  GgufMaker maker;
  maker.key("u8", 0, "\xff");
  maker.key("i8", 1, "\xff");
  maker.key("u16", 2, "\xff\xff");
  maker.key("i16", 3, "\xff\xff");
  maker.key("u32", 4, little_endian(~uint32_t{0}));
  maker.key("i32", 5, little_endian(int32_t{-7}));
  maker.key("f32", 6, little_endian(1e-5f));
  maker.key("bool", 7, "\x01");
  maker.key("string", 8, GgufMaker::text("\u2581"));
  maker.array("array", 4, 2, little_endian(uint32_t{3}) + little_endian(uint32_t{4}));
  maker.key("u64", 10, little_endian(~uint64_t{0}));
  maker.key("i64", 11, little_endian(int64_t{-9}));
  maker.key("f64", 12, little_endian(0.1));
  maker.array("strings", 8, 2, GgufMaker::text("x") + GgufMaker::text(""));
  const JsonValue metadata = read_gguf(SourceFile(bytes_of(maker.file()), "m")).metadata;
  EXPECT_EQ(metadata.find("u8")->integer(), 255);
  EXPECT_EQ(metadata.find("i8")->integer(), -1);
  EXPECT_EQ(metadata.find("u16")->integer(), 65535);
  EXPECT_EQ(metadata.find("i16")->integer(), -1);
  EXPECT_EQ(metadata.find("u32")->integer(), 4294967295);
  EXPECT_EQ(metadata.find("i32")->integer(), -7);
  EXPECT_EQ(metadata.find("f32")->number(), static_cast<double>(1e-5f));
  EXPECT_TRUE(metadata.find("bool")->boolean());
  EXPECT_EQ(metadata.find("string")->string(), "\u2581");
  EXPECT_EQ(*metadata.find("array"), JsonValue(JsonArray{3, 4}));
  EXPECT_EQ(metadata.find("u64")->unsigned_integer(), ~uint64_t{0});
  EXPECT_EQ(metadata.find("i64")->integer(), -9);
  EXPECT_EQ(metadata.find("f64")->number(), 0.1);
  EXPECT_EQ(*metadata.find("strings"), JsonValue(JsonArray{"x", ""}));
}

TEST(Gguf, OtherVersionsAndByteOrdersAreRefused) {
  GgufMaker maker;
  maker.version = 1;
  EXPECT_THAT(refused_gguf(maker), HasSubstr("GGUF version 1 is not read; 2 and 3 are"));
  maker.version = 4;
  EXPECT_THAT(refused_gguf(maker), HasSubstr("GGUF version 4"));
  maker.version = 0x03000000;
  EXPECT_THAT(refused_gguf(maker), HasSubstr("big-endian"));
  maker.magic = "GGML";
  EXPECT_THAT(refused_gguf(maker), HasSubstr("no GGUF file"));
  EXPECT_THAT(refused_gguf("GGUF"),
              AllOf(StartsWith("m.gguf: at byte 4: "), HasSubstr("the version")));
  EXPECT_THAT(refused_gguf(""), StartsWith("m.gguf: at byte 0: "));
}

TEST(Gguf, I20_CountsAreHeldAgainstTheBytesThatAreLeft) {
  for (const uint64_t count : {~uint64_t{0}, uint64_t{1} << 63, uint64_t{1} << 20, uint64_t{2}}) {
    GgufMaker maker;
    maker.num_tensors = count;
    EXPECT_THAT(refused_gguf(maker), HasSubstr(format("{} tensors and 0 keys", count)));
    maker.num_tensors = 0;
    maker.num_keys = count;
    EXPECT_THAT(refused_gguf(maker), HasSubstr(format("0 tensors and {} keys", count)));
  }
}

TEST(Gguf, CountsHaveLimitsOfTheirOwn) {
  const std::string room(100'001 * 24, '\0');
  GgufMaker maker;
  maker.num_tensors = 100'001;
  EXPECT_THAT(refused_gguf(maker.file() + room), HasSubstr("100001 tensors"));
  maker.num_tensors = 0;
  maker.num_keys = 10'001;
  EXPECT_THAT(refused_gguf(maker.file() + room), HasSubstr("10001 keys"));
}

TEST(Gguf, I20_LengthsOfTextsAndArraysAreHeldAgainstTheBytesThatAreLeft) {
  for (const uint64_t length : {~uint64_t{0}, uint64_t{1} << 40, uint64_t{6}}) {
    EXPECT_NE(refused_gguf(with_key(GgufMaker::kString, little_endian(length) + "hello")),
              "accepted");
  }
  EXPECT_THAT(refused_gguf(with_key(GgufMaker::kString, little_endian(uint64_t{67'108'865}))),
              HasSubstr("said to have 67108865 bytes; 67108864 are allowed"));
  for (const int32_t type : {0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12}) {
    for (const uint64_t count : {~uint64_t{0}, uint64_t{1} << 61, uint64_t{1} << 40, uint64_t{9}}) {
      GgufMaker maker;
      maker.array("k", type, count, std::string(8, '\0'));
      EXPECT_THAT(refused_gguf(maker), HasSubstr(format("said to have {} items", count))) << type;
    }
  }
}

TEST(Gguf, ManyLargeArraysAreRefusedTogether) {
  // One byte in the file is some forty in memory: the limit counts all arrays.
  GgufMaker maker;
  const std::string items(2'500'000, '\1');
  maker.array("a", GgufMaker::kU8, items.size(), items);
  EXPECT_EQ(refused_gguf(maker), "accepted");
  maker.array("b", GgufMaker::kU8, items.size(), items);
  EXPECT_THAT(refused_gguf(maker), HasSubstr("said to have 2500000 items"));
}

TEST(Gguf, MetadataHasABoundAsAWhole) {
  GgufMaker maker;
  const std::string text = GgufMaker::text(std::string(size_t{1} << 24, 'x'));
  for (int i = 0; i < 8; ++i) maker.key(format("k{}", i), GgufMaker::kString, text);
  EXPECT_THAT(refused_gguf(maker), HasSubstr("the metadata takes more than 134217728 bytes"));
}

TEST(Gguf, UnknownValueTypesAndNestedArraysAreRefused) {
  for (const int32_t type : {-1, 13, 1 << 30}) {
    EXPECT_THAT(refused_gguf(with_key(type, std::string(16, '\0'))),
                HasSubstr(format("value type {} is unknown", type)));
  }
  for (const int32_t type : {-1, 9, 13}) {
    GgufMaker maker;
    maker.array("k", type, 1, std::string(32, '\0'));
    EXPECT_THAT(refused_gguf(maker), HasSubstr(format("an array of type {} is not allowed", type)));
  }
}

TEST(Gguf, KeysAndTensorsStandOnce) {
  GgufMaker maker;
  maker.key("k", 0, "1");
  maker.key("k", 0, "1");
  EXPECT_THAT(refused_gguf(maker), HasSubstr("the key k stands twice"));
  maker = two_tensors();
  maker.tensors[1].name = "a";
  EXPECT_THAT(refused_gguf(maker), HasSubstr("tensor \"a\" stands twice"));
}

TEST(Gguf, TextsAreUtf8AndNamesHoldNoNul) {
  EXPECT_THAT(refused_gguf(with_key(GgufMaker::kString, GgufMaker::text("\xff"))),
              HasSubstr("UTF-8"));
  GgufMaker maker;
  maker.array("k", GgufMaker::kString, 1, GgufMaker::text("\xc3"));
  EXPECT_THAT(refused_gguf(maker), HasSubstr("UTF-8"));
  maker = GgufMaker();
  maker.key("k\xff", 0, "1");
  EXPECT_THAT(refused_gguf(maker), HasSubstr("UTF-8"));
  maker = two_tensors();
  maker.tensors[0].name = "\xed\xa0\x80";
  EXPECT_THAT(refused_gguf(maker), HasSubstr("a tensor's name is not UTF-8"));
  for (const std::string& name : {std::string(), std::string("a\0b", 3), std::string(256, 'n')}) {
    maker = two_tensors();
    maker.tensors[0].name = name;
    EXPECT_THAT(refused_gguf(maker), HasSubstr("a tensor's name must")) << name;
  }
}

TEST(Gguf, DimensionsAreOneToFourAndNeverLessThanOne) {
  for (const size_t rank : {size_t{0}, size_t{5}, size_t{100}}) {
    EXPECT_THAT(refused_gguf(with_tensor(std::vector<int64_t>(rank, 1), 0, 4)),
                HasSubstr(format("tensor \"t\": {} dimensions; 1 to 4 are allowed", rank)));
  }
  for (const int64_t size : {int64_t{0}, int64_t{-1}, int64_t{-32}, -kHuge - 1}) {
    EXPECT_THAT(refused_gguf(with_tensor({32, size}, 0, 128)),
                HasSubstr(format("tensor \"t\": size {} is not possible", size)));
  }
}

TEST(Gguf, I20_SizesThatOverflowAreRefused) {
  EXPECT_NE(refused_gguf(with_tensor({kHuge, kHuge}, 0, 4)), "accepted");
  EXPECT_NE(refused_gguf(with_tensor({int64_t{1} << 32, int64_t{1} << 32}, 0, 4)), "accepted");
  EXPECT_THAT(refused_gguf(with_tensor({int64_t{1} << 62}, 0, 4)),
              HasSubstr("does not fit in 64 bits"));
  EXPECT_THAT(refused_gguf(with_tensor({int64_t{1} << 60, 16, 1, 1}, 8, 34)),
              HasSubstr("tensor \"t\": size 16 is not possible"));
  EXPECT_THAT(refused_gguf(with_tensor({int64_t{1} << 40}, 0, 4)),
              HasSubstr("4398046511104 bytes at 0 of the data"));
}

TEST(Gguf, RowsAreWholeBlocks) {
  EXPECT_THAT(refused_gguf(with_tensor({33}, 8, 68)),
              HasSubstr("tensor \"t\": rows of 33 are no whole blocks of 32"));
  EXPECT_THAT(refused_gguf(with_tensor({16, 2}, 2, 18)), HasSubstr("no whole blocks of 32"))
      << "a block never spans rows";
}

TEST(Gguf, TypesThatAreKnownAreRefusedByNameAndOthersByNumber) {
  EXPECT_THAT(refused_gguf(with_tensor({256}, 23, 136)),
              AllOf(HasSubstr("tensor \"t\" is IQ4_XS, which is not read yet"), HasSubstr("Q8_0")));
  EXPECT_THAT(refused_gguf(with_tensor({32}, 20, 18)), HasSubstr("IQ4_NL"));
  for (const int32_t type : {-1, 4, 5, 9, 15, 31, 39, 1'000'000}) {
    EXPECT_THAT(refused_gguf(with_tensor({32}, type, 128)),
                HasSubstr(format("tensor \"t\": type {} is unknown", type)));
  }
}

TEST(Gguf, TensorsFollowOneAnotherWithoutHolesAndOverlaps) {
  for (const uint64_t offset : {uint64_t{0}, uint64_t{68}, uint64_t{128}, ~uint64_t{0}}) {
    GgufMaker maker = two_tensors();
    maker.tensors[1].offset = offset;
    EXPECT_THAT(refused_gguf(maker),
                HasSubstr(format("tensor \"b\": 12 bytes at {} of the data; it must "
                                 "begin at 96",
                                 offset)));
  }
  GgufMaker maker = two_tensors();
  maker.tensors[0].offset = 32;
  EXPECT_THAT(refused_gguf(maker), HasSubstr("tensor \"a\""));
}

TEST(Gguf, DataThatEndsTooEarlyIsRefused) {
  const std::string whole = two_tensors().file();
  EXPECT_EQ(refused_gguf(whole.substr(0, whole.size() - 20)), "accepted") << "the last padding";
  for (size_t size = 0; size < whole.size() - 20; ++size) {
    ASSERT_THAT(refused_gguf(whole.substr(0, size)), StartsWith("m.gguf: at byte ")) << size;
  }
}

TEST(Gguf, TheAlignmentIsAPowerOfTwoOfTheRightType) {
  for (const uint32_t alignment : {0u, 3u, 48u, 131072u, 1u << 31}) {
    GgufMaker maker = two_tensors();
    maker.key("general.alignment", GgufMaker::kU32, little_endian(alignment));
    EXPECT_THAT(refused_gguf(maker),
                HasSubstr("general.alignment must be a power of two up to 65536"))
        << alignment;
  }
  GgufMaker maker = two_tensors();
  maker.key("general.alignment", GgufMaker::kString, GgufMaker::text("32"));
  EXPECT_THAT(refused_gguf(maker), HasSubstr("general.alignment must be"));
  maker = two_tensors();
  maker.alignment = 64;
  maker.key("general.alignment", GgufMaker::kU32, little_endian(uint32_t{64}));
  EXPECT_EQ(refused_gguf(maker), "accepted");
}

TEST(Gguf, RandomDamageIsReadOrRefusedAndNeverMore) {
  GgufMaker maker = two_tensors();
  maker.array("tokens", GgufMaker::kString, 3,
              GgufMaker::text("<s>") + GgufMaker::text("a") + GgufMaker::text("\u2581"));
  maker.array("scores", GgufMaker::kF32, 2, little_endian(0.5f) + little_endian(-1.0f));
  maker.key("n", GgufMaker::kU32, little_endian(uint32_t{7}));
  const std::string valid = maker.file();
  std::mt19937 random(2);
  int refused = 0;
  constexpr int kRounds = 5000;
  for (int round = 0; round < kRounds; ++round) {
    const SourceFile source(bytes_of(damaged(valid, valid.size() - 128, random)), "m");
    try {
      const GgufFile file = read_gguf(source);
      for (const StoredTensor& tensor : file.tensors) {
        ASSERT_LE(tensor.bytes, source.size());
        ASSERT_LE(tensor.offset, source.size() - tensor.bytes);
      }
    } catch (const CheckpointError&) {
      ++refused;
    }
  }
  EXPECT_GT(refused, kRounds / 2);
  EXPECT_LT(refused, kRounds) << "damage to the data alone is no damage";
}

TEST(GgufParts, AreFoundByTheNameOfAnyOfThem) {
  const std::filesystem::path folder = "/models";
  EXPECT_THAT(gguf_parts(folder / "m-00002-of-00003.gguf"),
              ElementsAre(folder / "m-00001-of-00003.gguf", folder / "m-00002-of-00003.gguf",
                          folder / "m-00003-of-00003.gguf"));
  for (const char* name : {"m.gguf", "m-0001-of-0003.gguf", "m-0000a-of-00003.gguf",
                           "-00001-of-00002.gguf", "m_00001-of-00002.gguf", ".gguf"}) {
    EXPECT_THAT(gguf_parts(folder / name), ElementsAre(folder / name));
  }
  EXPECT_THAT(refusal_of([] { gguf_parts("m-00001-of-99999.gguf"); }),
              HasSubstr("99999 parts; 1 to 1000 are allowed"));
  EXPECT_THAT(refusal_of([] { gguf_parts("m-00001-of-00000.gguf"); }), HasSubstr("0 parts"));
}

}  // namespace
}  // namespace tidemill
