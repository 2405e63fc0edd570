#include "server/api_keys.h"

#include <openssl/crypto.h>

#include <stdexcept>

#include "base/check.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/option_table.h"
#include "base/text_file.h"

namespace tidemill {
namespace {

constexpr std::chrono::seconds kLookInterval{1};
constexpr size_t kMaxKeyNameBytes = 64;
constexpr std::string_view kNameBytes =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxKeyNameBytes &&
         text.find_first_not_of(kNameBytes) == std::string_view::npos;
}

// What can be sent in a header field: visible characters.
bool is_key(std::string_view text) {
  for (const char c : text) {
    if (c <= 0x20 || c == 0x7f) return false;
  }
  return !text.empty();
}

}  // namespace

ApiKeys::ApiKeys(std::string_view api_key, std::string file)
    : file_(std::move(file)), required_(!api_key.empty() || !file_.empty()) {
  if (!api_key.empty()) {
    if (!is_key(api_key)) {
      throw std::runtime_error(
          "api_key has blanks or characters that no header can carry; choose visible ASCII.");
    }
    own_.push_back({.name = "api_key", .digest = sha256_of(api_key)});
  }
  if (file_.empty()) return;
  try {
    identity_ = identity_of(file_);
    of_file_ = read(file_);
  } catch (const std::exception& error) {
    throw std::runtime_error(format("api_key_file {}", error.what()));
  }
  if (of_file_.empty()) {
    throw std::runtime_error(
        format("api_key_file {} holds no key. Write one `name key` a line.", file_));
  }
}

// Never says what stands in a line: it may be a key.
std::vector<ApiKeys::Key> ApiKeys::read(const std::string& file) {
  std::vector<Key> keys;
  const std::string text = read_text_file(file);
  int64_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    ++number;
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.empty() || line.starts_with('#')) continue;
    const size_t blank = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view name = line.substr(0, blank);
    const std::string_view key = trimmed(line.substr(blank));
    if (!is_name(name) || !is_key(key)) {
      throw std::runtime_error(
          format("{}:{}: must be a name of at most {} letters, digits, '.', '_' or '-', a blank, "
                 "and a key without blanks.",
                 file, number, kMaxKeyNameBytes));
    }
    keys.push_back({.name = std::string(name), .digest = sha256_of(key)});
  }
  return keys;
}

void ApiKeys::read_again() {
  try {
    const FileIdentity now = identity_of(file_);
    if (now == identity_) return;
    of_file_ = read(file_);
    identity_ = now;
    complaint_.clear();
    log_info("api_key_file: {} keys", of_file_.size());
  } catch (const std::exception& error) {
    if (complaint_ == error.what()) return;
    complaint_ = error.what();
    log_error("api_key_file: {} The keys stay what they were.", complaint_);
  }
}

std::optional<std::string> ApiKeys::name_of(std::string_view key, Time now) {
  if (!file_.empty() && now - looked_ >= kLookInterval) {
    looked_ = now;
    read_again();
  }
  const std::string digest = sha256_of(key);
  const Key* found = nullptr;
  for (const auto* keys : {&own_, &of_file_}) {
    for (const Key& candidate : *keys) {
      const bool same = CRYPTO_memcmp(candidate.digest.data(), digest.data(), digest.size()) == 0;
      if (same && found == nullptr) found = &candidate;
    }
  }
  return found == nullptr ? std::nullopt : std::optional(found->name);
}

}  // namespace tidemill
