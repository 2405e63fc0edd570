// A file of somebody else's, open for reading. It is read through its descriptor, never through a
// mapping: a file that shrinks while it is read is then a CheckpointError, and not the end of the
// process by SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/file_identity.h"

namespace tidemill {

class SourceFile {
 public:
  // Throws CheckpointError unless there is a regular file that can be read.
  explicit SourceFile(const std::filesystem::path& path);
  // Bytes in memory that are read as if they were a file of that name.
  SourceFile(std::vector<std::byte> bytes, std::string name);
  SourceFile(const SourceFile&) = delete;
  SourceFile& operator=(const SourceFile&) = delete;
  ~SourceFile();

  const std::string& name() const { return name_; }  // as it was given, for messages
  uint64_t size() const { return static_cast<uint64_t>(identity_.size); }
  // As it was when the file was opened.
  const FileIdentity& identity() const { return identity_; }

  // Fills `out` with the bytes from `offset` on; any thread. Throws CheckpointError when they
  // cannot be read, or are no longer there.
  void read(uint64_t offset, std::span<std::byte> out) const;

 private:
  std::string name_;
  int fd_ = -1;
  std::vector<std::byte> memory_;  // instead of a descriptor
  FileIdentity identity_;
};

}  // namespace tidemill
