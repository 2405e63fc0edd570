// Digests of large files, remembered by the files' identity, so that a warm start reads neither a
// checkpoint nor an engine again to know what they hold.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "base/file_identity.h"

namespace tidemill {

struct DigestMemory {
  // One small file per digest. It need not exist; where it cannot be written, or is not named,
  // nothing is remembered.
  std::filesystem::path dir;
  // A file that was written more recently may be written again within the same tick of its clock:
  // it is not remembered.
  int64_t settle_ms = 2000;

  // SHA-256 of the file, or empty.
  std::string recall(const FileIdentity& identity) const;
  void remember(const FileIdentity& identity, const std::string& digest) const;
};

}  // namespace tidemill
