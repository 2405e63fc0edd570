// A file mapped read-only. Move-only; unmaps itself. Throws std::runtime_error with the path and
// the reason when the file cannot be opened or mapped. An empty file maps to an empty span.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <utility>

namespace tidemill {

class MappedFile {
 public:
  MappedFile() = default;
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace tidemill
