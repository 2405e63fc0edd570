#include "checkpoint/gguf.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <unordered_set>

#include "base/utf8.h"
#include "checkpoint/byte_reader.h"

namespace tidemill {
namespace {

constexpr uint64_t kMaxTensors = 100'000;
constexpr uint64_t kMaxKeys = 10'000;
// Of all arrays together, since one byte in the file can be some forty in memory. Tokens, scores,
// types and merges of the largest vocabularies are below two million.
constexpr uint64_t kMaxArrayItems = 4'000'000;
constexpr uint64_t kMaxTextBytes = uint64_t{1} << 26;  // a whole tokenizer.json may be one
constexpr uint64_t kMaxMetadataBytes = uint64_t{1} << 27;
constexpr uint64_t kDefaultAlignment = 32;
constexpr uint64_t kMaxAlignment = 65536;
constexpr uint32_t kMaxDimensions = 4;

enum ValueType : int32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};

// Least bytes that a value of that type takes in the file.
uint64_t least_bytes(int32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    default:
      return 8;
  }
}

struct BlockType {
  int32_t id;
  const char* name;
  uint64_t elements;
  uint64_t bytes;
  std::optional<StoredType> type;  // absent: known, not read yet
};

constexpr BlockType kBlockTypes[] = {
    {0, "F32", 1, 4, StoredType::kF32},       {1, "F16", 1, 2, StoredType::kF16},
    {2, "Q4_0", 32, 18, StoredType::kQ4_0},   {3, "Q4_1", 32, 20, StoredType::kQ4_1},
    {6, "Q5_0", 32, 22, StoredType::kQ5_0},   {7, "Q5_1", 32, 24, StoredType::kQ5_1},
    {8, "Q8_0", 32, 34, StoredType::kQ8_0},   {10, "Q2_K", 256, 84, StoredType::kQ2K},
    {11, "Q3_K", 256, 110, StoredType::kQ3K}, {12, "Q4_K", 256, 144, StoredType::kQ4K},
    {13, "Q5_K", 256, 176, StoredType::kQ5K}, {14, "Q6_K", 256, 210, StoredType::kQ6K},
    {20, "IQ4_NL", 32, 18, std::nullopt},     {23, "IQ4_XS", 256, 136, std::nullopt},
    {24, "I8", 1, 1, StoredType::kI8},        {25, "I16", 1, 2, StoredType::kI16},
    {26, "I32", 1, 4, StoredType::kI32},      {27, "I64", 1, 8, StoredType::kI64},
    {28, "F64", 1, 8, StoredType::kF64},      {30, "BF16", 1, 2, StoredType::kBf16},
};

std::string read_text(ByteReader& reader, std::string_view what) {
  const auto length = reader.read<uint64_t>(what);
  if (length > kMaxTextBytes) {
    reader.fail(format("{} is said to have {} bytes; {} are allowed", what, length, kMaxTextBytes));
  }
  const auto bytes = reader.take(length, what);
  std::string text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (first_invalid_utf8(text)) reader.fail(format("{} is not UTF-8", what));
  return text;
}

JsonValue read_value(ByteReader& reader, int32_t type, uint64_t* items_left);

JsonValue read_array(ByteReader& reader, uint64_t* items_left) {
  const auto type = reader.read<int32_t>("an array's type");
  const auto count = reader.read<uint64_t>("an array's length");
  if (type < kUint8 || type > kFloat64 || type == kArray) {
    reader.fail(format("an array of type {} is not allowed", type));
  }
  if (count > *items_left || count > reader.remaining() / least_bytes(type)) {
    reader.fail(
        format("an array is said to have {} items; {} are left of the {} allowed, and {} "
               "bytes of the file",
               count, *items_left, kMaxArrayItems, reader.remaining()));
  }
  *items_left -= count;
  JsonArray items;
  for (uint64_t i = 0; i < count; ++i) items.push_back(read_value(reader, type, nullptr));
  return items;
}

// `items_left`: of all arrays; null inside one, where no other may stand.
JsonValue read_value(ByteReader& reader, int32_t type, uint64_t* items_left) {
  constexpr std::string_view what = "a metadata value";
  switch (type) {
    case kUint8:
      return int64_t{reader.read<uint8_t>(what)};
    case kInt8:
      return int64_t{reader.read<int8_t>(what)};
    case kUint16:
      return int64_t{reader.read<uint16_t>(what)};
    case kInt16:
      return int64_t{reader.read<int16_t>(what)};
    case kUint32:
      return int64_t{reader.read<uint32_t>(what)};
    case kInt32:
      return int64_t{reader.read<int32_t>(what)};
    case kFloat32:
      return static_cast<double>(reader.read<float>(what));
    case kBool:
      return reader.read<uint8_t>(what) != 0;
    case kString:
      return read_text(reader, what);
    case kUint64:
      return reader.read<uint64_t>(what);
    case kInt64:
      return reader.read<int64_t>(what);
    case kFloat64:
      return reader.read<double>(what);
    case kArray:
      if (items_left != nullptr) return read_array(reader, items_left);
      break;
    default:
      break;
  }
  reader.fail(format("value type {} is unknown", type));
}

JsonValue read_metadata(ByteReader& reader, uint64_t count) {
  JsonObject metadata;
  std::unordered_set<std::string> seen;
  uint64_t items_left = kMaxArrayItems;
  for (uint64_t i = 0; i < count; ++i) {
    std::string key = read_text(reader, "a metadata key");
    if (!seen.insert(key).second) reader.fail(format("the key {} stands twice", key.substr(0, 80)));
    const auto type = reader.read<int32_t>("a metadata type");
    metadata.emplace_back(std::move(key), read_value(reader, type, &items_left));
    if (reader.offset() > kMaxMetadataBytes) {
      reader.fail(format("the metadata takes more than {} bytes", kMaxMetadataBytes));
    }
  }
  return metadata;
}

uint64_t alignment_of(const ByteReader& reader, const JsonValue& metadata) {
  const JsonValue* value = metadata.find("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  const int64_t given = value->is_integer() && value->fits_int64() ? value->integer() : 0;
  const auto alignment = static_cast<uint64_t>(given);
  if (given <= 0 || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    reader.fail(format("general.alignment must be a power of two up to {}", kMaxAlignment));
  }
  return alignment;
}

// A tensor's description; where its data lies is known when all descriptions were read.
struct Entry {
  std::string name;
  const BlockType* type = nullptr;
  std::vector<int64_t> shape;
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

const BlockType& block_type(const ByteReader& reader, const std::string& name, int32_t id) {
  for (const BlockType& type : kBlockTypes) {
    if (type.id == id) return type;
  }
  reader.fail(format("tensor \"{}\": type {} is unknown", name, id));
}

Entry read_entry(ByteReader& reader) {
  Entry entry{.name = read_text(reader, "a tensor's name")};
  if (entry.name.empty() || entry.name.size() > 255 || entry.name.find('\0') != std::string::npos) {
    reader.fail("a tensor's name must have 1 to 255 bytes and no NUL");
  }
  const auto rank = reader.read<uint32_t>("a tensor's rank");
  if (rank < 1 || rank > kMaxDimensions) {
    reader.fail(format("tensor \"{}\": {} dimensions; 1 to 4 are allowed", entry.name, rank));
  }
  uint64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    const auto size = reader.read<int64_t>("a tensor's size");
    if (size < 1 || !multiply(elements, static_cast<uint64_t>(size), &elements)) {
      reader.fail(format("tensor \"{}\": size {} is not possible", entry.name, size));
    }
    entry.shape.insert(entry.shape.begin(), size);  // the file's order is innermost first
  }
  entry.type = &block_type(reader, entry.name, reader.read<int32_t>("a tensor's type"));
  entry.offset = reader.read<uint64_t>("a tensor's offset");
  if (static_cast<uint64_t>(entry.shape.back()) % entry.type->elements != 0) {
    reader.fail(format("tensor \"{}\": rows of {} are no whole blocks of {}", entry.name,
                       entry.shape.back(), entry.type->elements));
  }
  if (!multiply(elements / entry.type->elements, entry.type->bytes, &entry.bytes)) {
    reader.fail(format("tensor \"{}\": its size does not fit in 64 bits", entry.name));
  }
  return entry;
}

// Tensors follow one another in the order listed, padded to the alignment.
std::vector<StoredTensor> place(ByteReader& reader, std::vector<Entry> entries,
                                uint64_t alignment) {
  const auto padded = [alignment](uint64_t n) {
    return (n + alignment - 1) / alignment * alignment;
  };
  const uint64_t padding = padded(reader.offset()) - reader.offset();
  if (!entries.empty()) reader.skip(padding, "the padding before the data");
  const uint64_t available = reader.remaining();
  std::vector<StoredTensor> tensors;
  uint64_t expected = 0;
  for (Entry& entry : entries) {
    if (entry.offset != expected || entry.bytes > available || expected > available - entry.bytes) {
      reader.fail(
          format("tensor \"{}\": {} bytes at {} of the data; it must begin at {} and end "
                 "before {}",
                 entry.name, entry.bytes, entry.offset, expected, available));
    }
    expected = padded(expected + entry.bytes);
    if (!entry.type->type) {
      reader.fail(
          format("tensor \"{}\" is {}, which is not read yet; convert the model to a type from "
                 "Q4_0 to Q8_0 or from Q2_K to Q6_K, BF16, F16 or F32",
                 entry.name, entry.type->name));
    }
    tensors.push_back({.name = std::move(entry.name),
                       .type = *entry.type->type,
                       .shape = std::move(entry.shape),
                       .source = &reader.file(),
                       .offset = reader.offset() + entry.offset,
                       .bytes = entry.bytes});
  }
  return tensors;
}

void check_head(ByteReader& reader) {
  if (reader.read<uint32_t>("the magic number") != 0x46554747) reader.fail("this is no GGUF file");
  const auto version = reader.read<uint32_t>("the version");
  if ((version & 0xffff) == 0) reader.fail("big-endian GGUF files are not read");
  if (version != 2 && version != 3) {
    reader.fail(format("GGUF version {} is not read; 2 and 3 are", version));
  }
}

}  // namespace

GgufFile read_gguf(const SourceFile& file) {
  ByteReader reader(file);
  check_head(reader);
  const auto tensor_count = reader.read<uint64_t>("the number of tensors");
  const auto key_count = reader.read<uint64_t>("the number of keys");
  // A tensor's description takes 24 bytes at least, a key 13.
  if (tensor_count > kMaxTensors || tensor_count > reader.remaining() / 24 ||
      key_count > kMaxKeys || key_count > reader.remaining() / 13) {
    reader.fail(format("{} tensors and {} keys are said to follow, and {} bytes are left",
                       tensor_count, key_count, reader.remaining()));
  }
  GgufFile result{.metadata = read_metadata(reader, key_count), .tensors = {}};
  std::vector<Entry> entries;
  std::unordered_set<std::string> seen;
  for (uint64_t i = 0; i < tensor_count; ++i) {
    entries.push_back(read_entry(reader));
    if (!seen.insert(entries.back().name).second) {
      reader.fail(format("tensor \"{}\" stands twice", entries.back().name));
    }
  }
  result.tensors = place(reader, std::move(entries), alignment_of(reader, result.metadata));
  return result;
}

std::vector<std::filesystem::path> gguf_parts(const std::filesystem::path& path) {
  // "-%05d-of-%05d" in front of ".gguf"
  const std::string stem = path.stem().string();
  const size_t length = std::string_view("-00001-of-00001").size();
  const auto digits = [&](size_t from_end) -> std::optional<int> {
    const std::string text = stem.substr(stem.size() - from_end, 5);
    if (!std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; })) {
      return std::nullopt;
    }
    return std::stoi(text);
  };
  if (stem.size() <= length || stem.substr(stem.size() - 9, 4) != "-of-" ||
      stem[stem.size() - length] != '-' || !digits(14) || !digits(5)) {
    return {path};
  }
  const std::string base = stem.substr(0, stem.size() - length);
  const int count = *digits(5);
  if (count < 1 || count > 1000) {
    throw CheckpointError(format("{}: {} parts; 1 to 1000 are allowed.", path.string(), count));
  }
  std::vector<std::filesystem::path> parts;
  for (int i = 1; i <= count; ++i) {
    parts.push_back(path.parent_path() / format("{}-{:05}-of-{:05}.gguf", base, i, count));
  }
  return parts;
}

}  // namespace tidemill
