// Reads little-endian numbers from a file, front to back, never beyond its end. Every complaint
// names file and offset.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/source_file.h"

namespace tidemill {

class ByteReader {
 public:
  explicit ByteReader(const SourceFile& file) : file_(file) {}

  uint64_t offset() const { return offset_; }
  uint64_t remaining() const { return file_.size() - offset_; }
  const SourceFile& file() const { return file_; }

  // Unaligned data is copied, never cast.
  template <typename Number>
  Number read(std::string_view what) {
    Number value;
    std::memcpy(&value, take(sizeof value, what).data(), sizeof value);
    return value;
  }

  // Valid until the next call.
  std::span<const std::byte> take(uint64_t count, std::string_view what) {
    check_left(count, what);
    if (offset_ < window_begin_ || offset_ + count > window_begin_ + window_.size()) load(count);
    const auto taken = std::span<const std::byte>(window_).subspan(offset_ - window_begin_, count);
    offset_ += count;
    return taken;
  }

  void skip(uint64_t count, std::string_view what) {
    check_left(count, what);
    offset_ += count;
  }

  [[noreturn]] void fail(std::string_view reason) const {
    throw CheckpointError(format("{}: at byte {}: {}.", file_.name(), offset_, reason));
  }

 private:
  // Numbers come a few bytes at a time; the system is asked for many.
  static constexpr uint64_t kWindowBytes = uint64_t{1} << 18;

  void check_left(uint64_t count, std::string_view what) const {
    if (count > remaining()) {
      fail(format("{} needs {} bytes, and {} are left", what, count, remaining()));
    }
  }
  void load(uint64_t count) {
    window_.resize(std::max(count, std::min(kWindowBytes, remaining())));
    window_begin_ = offset_;
    file_.read(offset_, window_);
  }

  const SourceFile& file_;
  std::vector<std::byte> window_;
  uint64_t window_begin_ = 0;
  uint64_t offset_ = 0;
};

// Products and sums of sizes that came from a file. False when they do not fit in 64 bits.
inline bool multiply(uint64_t a, uint64_t b, uint64_t* out) {
  return !__builtin_mul_overflow(a, b, out);
}

}  // namespace tidemill
