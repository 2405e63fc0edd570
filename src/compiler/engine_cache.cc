#include "compiler/engine_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include "base/check.h"
#include "base/log.h"
#include "compiler/staged_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr mode_t kPrivate = 0700;
constexpr mode_t kOthersWrite = S_IWGRP | S_IWOTH;

std::runtime_error refusal(const fs::path& dir, std::string_view reason) {
  return std::runtime_error(
      format("{}: cannot hold compiled engines: {}. Name another folder with --cache-dir; one "
             "that does not exist is made.",
             dir.string(), reason));
}

}  // namespace

fs::path default_cache_dir() {
  const char* xdg = std::getenv("XDG_CACHE_HOME");
  if (xdg != nullptr && fs::path(xdg).is_absolute()) return fs::path(xdg) / "tidemill";
  const char* home = std::getenv("HOME");
  if (home != nullptr && *home != '\0' && ::access(home, W_OK | X_OK) == 0) {
    return fs::path(home) / ".cache" / "tidemill";
  }
  return "/tmp/tidemill-cache";
}

EngineCache::EngineCache(const fs::path& dir) : dir_(fs::absolute(dir).lexically_normal()) {
  if (!dir_.has_filename()) dir_ = dir_.parent_path();  // "cache/"
  std::error_code error;
  fs::create_directories(dir_.parent_path(), error);
  if (!error && ::mkdir(dir_.c_str(), kPrivate) != 0 && errno != EEXIST) {
    error.assign(errno, std::generic_category());
  }
  if (error) throw refusal(dir_, error.message());

  struct stat status {};
  if (::lstat(dir_.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) {
    throw refusal(dir_, "it is not a folder");
  }
  if (status.st_uid != ::geteuid()) throw refusal(dir_, "it belongs to another user");
  if ((status.st_mode & kOthersWrite) != 0) {
    throw refusal(dir_, "others may write to it (chmod go-w would end that)");
  }
  if (::access(dir_.c_str(), W_OK | X_OK) != 0) throw refusal(dir_, "it cannot be written to");
  fs::create_directories(dir_ / "engines");
  remove_abandoned_stages(dir_ / "engines");
}

fs::path EngineCache::engine_dir(const std::string& source_digest) const {
  return dir_ / "engines" / source_digest;
}

DigestMemory EngineCache::digest_memory() const { return {.dir = dir_ / "digests"}; }

fs::path calibration_dir_of(const fs::path& cache_dir) { return cache_dir / "calibration"; }

bool may_be_read(const fs::path& cache_dir) {
  struct stat status {};
  // With a slash at its end, a link would be followed.
  const fs::path dir = cache_dir.has_filename() ? cache_dir : cache_dir.parent_path();
  return ::lstat(dir.c_str(), &status) == 0 && S_ISDIR(status.st_mode) &&
         (status.st_uid == ::geteuid() || status.st_uid == 0) &&
         (status.st_mode & kOthersWrite) == 0;
}

DigestMemory digest_memory_of(const fs::path& cache_dir) {
  try {
    return EngineCache(cache_dir).digest_memory();
  } catch (const std::runtime_error& error) {
    log_warning("{} Until then every start reads the whole model to check it.", error.what());
    return {};
  }
}

}  // namespace tidemill
