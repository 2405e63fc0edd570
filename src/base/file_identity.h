// What changes when a file is written or replaced, as far as the file system tells. Two equal
// identities mean the same bytes, unless the file was written twice within one tick of its clock.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace tidemill {

struct FileIdentity {
  std::string path;  // absolute
  int64_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  int64_t inode = 0;
  int64_t device = 0;
  bool operator==(const FileIdentity&) const = default;
};

// Of the file that a path leads to, or of one that is open and was found under `path`. Both throw
// std::runtime_error with path and reason.
FileIdentity identity_of(const std::filesystem::path& path);
FileIdentity identity_of(int fd, const std::filesystem::path& path);

}  // namespace tidemill
