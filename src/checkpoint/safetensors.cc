#include "checkpoint/safetensors.h"

#include <algorithm>
#include <unordered_set>

#include "base/check.h"
#include "base/utf8.h"
#include "checkpoint/byte_reader.h"

namespace tidemill {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxNames = 1'000'000;
constexpr size_t kMaxRank = 8;
constexpr size_t kMaxNameBytes = 1024;
constexpr int64_t kMaxNumber = (int64_t{1} << 48) - 1;  // of the format's schema

struct NamedType {
  std::string_view name;
  StoredType type;
  uint64_t bits;
};

constexpr NamedType kTypes[] = {
    {"BOOL", StoredType::kBool, 8},
    {"U8", StoredType::kU8, 8},
    {"I8", StoredType::kI8, 8},
    {"I16", StoredType::kI16, 16},
    {"U16", StoredType::kU16, 16},
    {"I32", StoredType::kI32, 32},
    {"U32", StoredType::kU32, 32},
    {"I64", StoredType::kI64, 64},
    {"U64", StoredType::kU64, 64},
    {"F16", StoredType::kF16, 16},
    {"BF16", StoredType::kBf16, 16},
    {"F32", StoredType::kF32, 32},
    {"F64", StoredType::kF64, 64},
    {"F8_E4M3", StoredType::kF8E4M3, 8},
    {"F8_E5M2", StoredType::kF8E5M2, 8},
    {"F8_E8M0", StoredType::kF8E8M0, 8},
    {"F8_E4M3FNUZ", StoredType::kF8E4M3Fnuz, 8},
    {"F8_E5M2FNUZ", StoredType::kF8E5M2Fnuz, 8},
    {"F4", StoredType::kF4, 4},
    {"F6_E2M3", StoredType::kF6E2M3, 6},
    {"F6_E3M2", StoredType::kF6E3M2, 6},
    {"C64", StoredType::kC64, 64},
};

[[noreturn]] void fail(const std::string& file, std::string_view tensor, std::string_view reason) {
  // A message ends at its first NUL, so the name must.
  const std::string_view shown = tensor.substr(0, std::min<size_t>(80, tensor.find('\0')));
  throw CheckpointError(format("{}: tensor \"{}\": {}.", file, shown, reason));
}

const NamedType& type_of(const std::string& file, std::string_view tensor, const JsonValue* value) {
  if (value == nullptr || !value->is_string()) fail(file, tensor, "dtype must be a string");
  for (const NamedType& type : kTypes) {
    if (type.name == value->string()) return type;
  }
  fail(file, tensor, format("dtype {} is unknown", value->string().substr(0, 32)));
}

int64_t size_number(const std::string& file, std::string_view tensor, const JsonValue& value) {
  if (!value.is_integer() || !value.fits_int64() || value.integer() < 0 ||
      value.integer() > kMaxNumber) {
    fail(file, tensor, "shapes and offsets must be integers from 0 to 2^48 - 1");
  }
  return value.integer();
}

std::vector<int64_t> number_list(const std::string& file, std::string_view tensor,
                                 const JsonValue* value, std::string_view what, size_t most) {
  if (value == nullptr || !value->is_array() || value->array().size() > most) {
    fail(file, tensor, format("{} must be a list of at most {} integers", what, most));
  }
  std::vector<int64_t> numbers;
  for (const JsonValue& item : value->array()) numbers.push_back(size_number(file, tensor, item));
  return numbers;
}

// A tensor of the header; its place in the buffer is checked against its neighbours' later.
struct HeaderEntry {
  std::string name;
  const NamedType* type = nullptr;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

uint64_t bytes_of(const std::string& file, const HeaderEntry& entry) {
  uint64_t bits = entry.type->bits;
  for (const int64_t size : entry.shape) {
    if (!multiply(bits, static_cast<uint64_t>(size), &bits)) {
      fail(file, entry.name, "its shape does not fit in 64 bits");
    }
  }
  if (bits % 8 != 0) fail(file, entry.name, "its elements do not fill whole bytes");
  return bits / 8;
}

HeaderEntry read_entry(const std::string& file, const JsonMember& member) {
  const auto& [name, value] = member;
  if (name.size() > kMaxNameBytes || name.find('\0') != std::string::npos) {
    fail(file, name, format("names have at most {} bytes and no NUL", kMaxNameBytes));
  }
  if (!value.is_object()) fail(file, name, "its description must be an object");
  if (value.object().size() != 3) {
    fail(file, name, "its description must hold dtype, shape and data_offsets, and nothing else");
  }
  HeaderEntry entry{.name = name, .type = &type_of(file, name, value.find("dtype"))};
  entry.shape = number_list(file, name, value.find("shape"), "shape", kMaxRank);
  const auto offsets = number_list(file, name, value.find("data_offsets"), "data_offsets", 2);
  if (offsets.size() != 2) fail(file, name, "data_offsets must hold two numbers");
  entry.begin = static_cast<uint64_t>(offsets[0]);
  entry.end = static_cast<uint64_t>(offsets[1]);
  const uint64_t bytes = bytes_of(file, entry);
  if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
    fail(file, name,
         format("its shape takes {} bytes, and its offsets {} to {} do not", bytes, entry.begin,
                entry.end));
  }
  return entry;
}

void check_metadata(const std::string& file, const JsonValue& metadata) {
  const bool valid =
      metadata.is_object() && std::all_of(metadata.object().begin(), metadata.object().end(),
                                          [](const JsonMember& m) { return m.second.is_string(); });
  if (!valid) throw CheckpointError(format("{}: __metadata__ must hold strings only.", file));
}

// Valid while the reader does not move on: what remains then is the buffer.
std::string_view take_header(ByteReader& reader) {
  if (reader.remaining() < 8) reader.fail("the file is shorter than its header's length field");
  const auto length = reader.read<uint64_t>("the header's length");
  if (length > kMaxHeaderBytes) {
    reader.fail(
        format("the header is said to have {} bytes; {} are allowed", length, kMaxHeaderBytes));
  }
  const auto header = reader.take(length, "the header");
  return {reinterpret_cast<const char*>(header.data()), header.size()};
}

std::vector<HeaderEntry> read_header(std::string_view header, const std::string& file) {
  // The tensors and __metadata__. More are refused while they come in: in memory they take twenty
  // times their bytes in the file.
  const auto json = parse_json(
      header, {.max_depth = 4, .max_values = 12 * kMaxNames, .max_members = kMaxNames + 1});
  if (!json) throw CheckpointError(format("{}: header: {}.", file, json.error().message));
  if (!json->is_object()) throw CheckpointError(format("{}: the header is no object.", file));
  if (json->object().size() > kMaxNames + 1) {
    throw CheckpointError(format("{}: more than {} tensors.", file, kMaxNames));
  }
  std::vector<HeaderEntry> entries;
  for (const JsonMember& member : json->object()) {
    if (member.first == "__metadata__") {
      check_metadata(file, member.second);
    } else {
      entries.push_back(read_entry(file, member));
    }
  }
  return entries;
}

// No holes, no overlaps, nothing behind the last: a file cannot mean two things.
void check_layout(std::vector<HeaderEntry>& entries, uint64_t buffer_bytes,
                  const std::string& file) {
  std::stable_sort(entries.begin(), entries.end(), [](const HeaderEntry& a, const HeaderEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t expected = 0;
  for (const HeaderEntry& entry : entries) {
    if (entry.begin != expected) {
      fail(file, entry.name,
           format("it begins at {} of the buffer; the one before ends at {}", entry.begin,
                  expected));
    }
    expected = entry.end;
  }
  if (expected != buffer_bytes) {
    throw CheckpointError(format("{}: the tensors take {} bytes, and the buffer has {}.", file,
                                 expected, buffer_bytes));
  }
}

bool is_plain_name(std::string_view name) {
  return name.size() > std::string_view(".safetensors").size() && name.size() <= 255 &&
         name.ends_with(".safetensors") &&
         name.find_first_of(std::string_view("/\\\0", 3)) == std::string_view::npos &&
         !name.starts_with("..");
}

}  // namespace

std::vector<StoredTensor> read_safetensors(const SourceFile& source) {
  const std::string& file = source.name();
  ByteReader reader(source);
  std::vector<HeaderEntry> entries = read_header(take_header(reader), file);
  check_layout(entries, reader.remaining(), file);
  std::vector<StoredTensor> tensors;
  for (HeaderEntry& entry : entries) {
    tensors.push_back({.name = std::move(entry.name),
                       .type = entry.type->type,
                       .shape = std::move(entry.shape),
                       .source = &source,
                       .offset = reader.offset() + entry.begin,
                       .bytes = entry.end - entry.begin});
  }
  return tensors;
}

ShardIndex read_shard_index(std::string_view text, const std::string& file) {
  const auto json = parse_json(text, kFileJsonLimits);
  if (!json) throw CheckpointError(format("{}: {}.", file, json.error().message));
  const JsonValue* map = json->find("weight_map");
  if (map == nullptr || !map->is_object()) {
    throw CheckpointError(format("{}: weight_map is missing.", file));
  }
  ShardIndex index;
  std::unordered_set<std::string> seen;
  for (const auto& [tensor, name] : map->object()) {
    if (!name.is_string() || !is_plain_name(name.string())) {
      fail(file, tensor, "its file must be a plain name that ends in .safetensors");
    }
    index.file_of_tensor.emplace_back(tensor, name.string());
    if (seen.insert(name.string()).second) index.files.push_back(name.string());
  }
  return index;
}

}  // namespace tidemill
