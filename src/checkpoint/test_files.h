// For tests: folders that disappear with their object, and files made up byte by byte, so that
// every lie a file can tell is one line.
#pragma once

#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "checkpoint/source_file.h"

namespace tidemill {

// A folder under the system's temporary one, empty at first.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "tidemill-test-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary folder");
    path_ = name;
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path write(std::string_view name, std::string_view text) const {
    const std::filesystem::path file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
    return file;
  }

 private:
  std::filesystem::path path_;
};

// What a function says when it refuses, or "accepted".
template <typename Function>
std::string refusal_of(Function function) {
  try {
    function();
  } catch (const CheckpointError& error) {
    return error.what();
  }
  return "accepted";
}

// A copy that ends where the text ends, so that a sanitizer sees the first byte read too far.
inline std::vector<std::byte> bytes_of(std::string_view text) {
  std::vector<std::byte> bytes(text.size());
  if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
  return bytes;
}

// The stored bytes of a tensor.
inline std::string text_of(const StoredTensor& tensor) {
  std::string text(tensor.bytes, '\0');
  tensor.source->read(tensor.offset, std::as_writable_bytes(std::span(text)));
  return text;
}

template <typename Number>
std::string little_endian(Number value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

inline std::string safetensors_file(std::string_view header, std::string_view buffer) {
  return little_endian<uint64_t>(header.size()) + std::string(header) + std::string(buffer);
}

// One of: a few flipped bits, a byte set to a border value, a cut, bytes put in, bytes repeated.
// Almost all of them in the first `focus` bytes, where the structure is.
inline std::string damaged(std::string text, size_t focus, std::mt19937& random) {
  const auto below = [&](size_t limit) { return static_cast<size_t>(random()) % limit; };
  const size_t at = below(8) == 0 ? below(text.size()) : below(std::min(focus, text.size()));
  constexpr char kBorders[] = {'\x00', '\x01', '\x7f', '\x80', '\xff', '"', '[', '9', '-'};
  switch (below(5)) {
    case 0:
      for (size_t i = 0; i <= below(4); ++i) {
        text[below(text.size())] ^= static_cast<char>(1 << below(8));
      }
      break;
    case 1:
      text[at] = kBorders[below(std::size(kBorders))];
      break;
    case 2:
      text.resize(at);
      break;
    case 3:
      text.insert(at, std::string(1 + below(9), kBorders[below(std::size(kBorders))]));
      break;
    default:
      text.insert(at, text.substr(at, 1 + below(32)));
      break;
  }
  return text;
}

// A GGUF file. Everything is public, to be made wrong.
struct GgufMaker {
  struct Tensor {
    std::string name;
    std::vector<int64_t> dims;  // fastest first, as the file has them
    int32_t type = 0;
    std::string data;
    std::optional<uint64_t> offset = {};  // absent: where it belongs
  };
  enum Type : int32_t {
    kU8 = 0,
    kU16 = 2,
    kU32 = 4,
    kI32 = 5,
    kF32 = 6,
    kBool = 7,
    kString = 8,
    kArray = 9,
    kU64 = 10
  };

  std::string magic = "GGUF";
  uint32_t version = 3;
  size_t alignment = 32;
  std::vector<std::string> keys;  // coded: key, type, value
  std::vector<Tensor> tensors;
  std::optional<uint64_t> num_keys = {};
  std::optional<uint64_t> num_tensors = {};

  static std::string text(std::string_view value) {
    return little_endian<uint64_t>(value.size()) + std::string(value);
  }
  // `value` is coded already.
  void key(std::string_view name, int32_t type, std::string_view value) {
    keys.push_back(text(name) + little_endian(type) + std::string(value));
  }
  void array(std::string_view name, int32_t type, uint64_t count, std::string_view items) {
    key(name, kArray, little_endian(type) + little_endian(count) + std::string(items));
  }

  std::string file() const {
    std::string out = magic + little_endian(version) +
                      little_endian<uint64_t>(num_tensors.value_or(tensors.size())) +
                      little_endian<uint64_t>(num_keys.value_or(keys.size()));
    for (const std::string& coded : keys) out += coded;
    std::string data;
    for (const Tensor& tensor : tensors) {
      out += text(tensor.name) + little_endian(static_cast<uint32_t>(tensor.dims.size()));
      for (const int64_t size : tensor.dims) out += little_endian(size);
      out += little_endian(tensor.type) + little_endian(tensor.offset.value_or(data.size()));
      data += tensor.data;
      pad(data);
    }
    if (!tensors.empty()) pad(out);
    return out + data;
  }

 private:
  void pad(std::string& out) const {
    out.resize((out.size() + alignment - 1) / alignment * alignment);
  }
};

}  // namespace tidemill
