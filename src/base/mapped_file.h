// A file mapped read-only. Move-only; unmaps itself. Throws std::runtime_error with the path and
// the reason when the file cannot be opened or mapped. An empty file maps to an empty span.
//
// A file that somebody makes shorter, or whose disk fails, would end the process with SIGBUS where
// it is read next. Instead zeros are read there, and has_failed() says so from then on: whoever
// computes with the bytes asks afterwards, and throws away what came of them.
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
  MappedFile(MappedFile&& other) noexcept
      : bytes_(std::exchange(other.bytes_, {})), guard_(std::exchange(other.guard_, nullptr)) {}
  MappedFile& operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(guard_, other.guard_);
    return *this;
  }
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }
  // Bytes of bytes() that were read and are not needed in the process for now: their whole pages
  // stay with the system's page cache alone, and are mapped again when they are read. Any thread.
  void set_aside(size_t offset, size_t count) const;
  // Bytes of the file could not be read since it was mapped. Any thread.
  bool has_failed() const;

 private:
  struct Guard;  // what the signal's handler knows of a mapping
  static Guard guards_[];
  static Guard* watch(std::span<const std::byte> bytes);
  static void on_bus_error(int signal, void* address);

  std::span<const std::byte> bytes_;
  Guard* guard_ = nullptr;  // null: nothing is mapped, or too much is
};

}  // namespace tidemill
