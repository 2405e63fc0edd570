#include "base/file_identity.h"

#include <sys/stat.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include "base/check.h"

namespace tidemill {
namespace {

int64_t nanoseconds(const timespec& time) {
  constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
  return int64_t{time.tv_sec} * kNanosecondsPerSecond + time.tv_nsec;
}

FileIdentity identity_in(const struct stat& status, const std::filesystem::path& path) {
  return {.path = std::filesystem::absolute(path).string(),
          .size = status.st_size,
          .modified_ns = nanoseconds(status.st_mtim),
          .changed_ns = nanoseconds(status.st_ctim),
          .inode = static_cast<int64_t>(status.st_ino),
          .device = static_cast<int64_t>(status.st_dev)};
}

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw std::runtime_error(format("{}: {}", path.string(), std::generic_category().message(errno)));
}

}  // namespace

FileIdentity identity_of(const std::filesystem::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) fail(path);
  return identity_in(status, path);
}

FileIdentity identity_of(int fd, const std::filesystem::path& path) {
  struct stat status {};
  if (::fstat(fd, &status) != 0) fail(path);
  return identity_in(status, path);
}

}  // namespace tidemill
