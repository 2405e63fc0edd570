// Who may ask: one key of the settings, or a file of named keys that is read again when it changes
// (apis.md CO-9). Keys are kept and compared as digests, all of them each time, so that neither
// memory nor time tells one. I/O thread only.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_identity.h"

namespace tidemill {

class ApiKeys {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // Empty: there is none. The file has one `name key` a line; empty lines and those that begin with
  // # are skipped. Throws std::runtime_error with file and line for what cannot be read, and for a
  // file without a key.
  ApiKeys(std::string_view api_key, std::string file);

  bool required() const { return required_; }
  // The name of a key that is right. Looks at the file once a second; one that cannot be read any
  // more, or is malformed, is told in the log, and the keys stay what they were.
  std::optional<std::string> name_of(std::string_view key, Time now);

 private:
  struct Key {
    std::string name;
    std::string digest;  // SHA-256, hex
  };

  static std::vector<Key> read(const std::string& file);
  void read_again();

  const std::string file_;
  const bool required_;
  std::vector<Key> own_;  // of the settings
  std::vector<Key> of_file_;
  FileIdentity identity_;
  std::string complaint_;  // the last that was logged
  Time looked_{};
};

}  // namespace tidemill
