// Reads little-endian numbers from a mapped file, front to back, never beyond its end. Every
// complaint names file and offset.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/check.h"
#include "checkpoint/checkpoint.h"

namespace tidemill {

class ByteReader {
 public:
  // `file` is for messages.
  ByteReader(std::span<const std::byte> bytes, std::string file)
      : bytes_(bytes), file_(std::move(file)) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return bytes_.size() - offset_; }
  const std::string& file() const { return file_; }

  // Unaligned data is copied, never cast.
  template <typename Number>
  Number read(std::string_view what) {
    Number value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    if (count > remaining()) {
      fail(format("{} needs {} bytes, and {} are left", what, count, remaining()));
    }
    const auto taken = bytes_.subspan(offset_, count);
    offset_ += count;
    return taken;
  }

  [[noreturn]] void fail(std::string_view reason) const {
    throw CheckpointError(format("{}: at byte {}: {}.", file_, offset_, reason));
  }

 private:
  std::span<const std::byte> bytes_;
  std::string file_;
  uint64_t offset_ = 0;
};

// Products and sums of sizes that came from a file. False when they do not fit in 64 bits.
inline bool multiply(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out);
}

}  // namespace tidemill
