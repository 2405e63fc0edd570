// SHA-256, by OpenSSL. Hex, lower case, 64 characters.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace tidemill {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void add(std::span<const std::byte> bytes);
  void add(std::string_view text);
  std::string hex();  // ends the digest; add() must not be called afterwards

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string sha256_of(std::string_view text);
std::string sha256_of_file(const std::filesystem::path& path);  // throws if it cannot be read

}  // namespace tidemill
