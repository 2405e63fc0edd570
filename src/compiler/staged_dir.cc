#include "compiler/staged_dir.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "base/check.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStageSuffix = ".compiling";

[[noreturn]] void fail(const fs::path& path, std::string_view what) {
  throw std::runtime_error(
      format("{}: {}: {}", path.string(), what, std::generic_category().message(errno)));
}

// An open folder, locked for this process while it lives.
class LockedDir {
 public:
  LockedDir() = default;
  explicit LockedDir(int fd) : fd_(fd) {}
  LockedDir(LockedDir&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  LockedDir& operator=(LockedDir&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~LockedDir() {
    if (fd_ >= 0) ::close(fd_);
  }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }

  // The folder of that name, locked; empty when it does not exist, was renamed or removed while we
  // waited, or (with LOCK_NB, and then busy()) somebody else holds it.
  static LockedDir lock(const fs::path& path, int operation) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return {};
    if (fd < 0) fail(path, "cannot be opened as a folder");
    LockedDir dir(fd);
    while (::flock(fd, operation) != 0) {
      if (errno == EINTR) continue;
      if (errno != EWOULDBLOCK) fail(path, "cannot be locked");
      return LockedDir(kBusy);
    }
    struct stat held {};
    struct stat named {};
    const bool same = ::fstat(fd, &held) == 0 && ::stat(path.c_str(), &named) == 0 &&
                      held.st_ino == named.st_ino && held.st_dev == named.st_dev;
    return same ? std::move(dir) : LockedDir();
  }
  bool busy() const { return fd_ == kBusy; }

 private:
  static constexpr int kBusy = -2;
  int fd_ = -1;
};

void sync_to_disk(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path, "cannot be opened");
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) fail(path, "does not reach the disk");
}

void remove_contents(const fs::path& dir) {
  for (const fs::directory_entry& entry : fs::directory_iterator(dir)) fs::remove_all(entry.path());
}

// An absolute path without a slash at its end, so that it has a name and a parent.
fs::path named(const fs::path& target) {
  const fs::path path = fs::absolute(target).lexically_normal();
  return path.has_filename() ? path : path.parent_path();
}

// Between two looks at a target that another process builds.
constexpr std::chrono::milliseconds kWaitInterval{100};

// Where the old folder goes for a moment, when names cannot be exchanged.
fs::path replaced_name(const fs::path& target) {
  return target.parent_path() /
         ("." + target.filename().string() + ".replaced" + std::string(kStageSuffix));
}

}  // namespace

StagedDir::StagedDir(const fs::path& target, const std::function<void()>& on_wait)
    : target_(named(target)),
      path_(target_.parent_path() /
            ("." + target_.filename().string() + std::string(kStageSuffix))) {
  fs::create_directories(target_.parent_path());
  while (lock_ < 0) {
    if (::mkdir(path_.c_str(), 0755) != 0 && errno != EEXIST) fail(path_, "cannot be created");
    LockedDir lock = LockedDir::lock(path_, LOCK_EX | LOCK_NB);
    if (lock.busy()) {
      on_wait();
      std::this_thread::sleep_for(kWaitInterval);
    } else if (lock) {
      remove_contents(path_);
      fs::remove_all(replaced_name(target_));
      lock_ = lock.release();
    }
  }
}

StagedDir::~StagedDir() {
  std::error_code ignored;
  if (!published_) fs::remove_all(path_, ignored);
  ::close(lock_);
}

void StagedDir::publish() {
  for (const fs::directory_entry& entry : fs::directory_iterator(path_)) sync_to_disk(entry.path());
  sync_to_disk(path_);
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_NOREPLACE) != 0) {
    if (errno != EEXIST && errno != EINVAL) fail(target_, "cannot be given its final name");
    replace_target();
  }
  published_ = true;
  sync_to_disk(target_.parent_path());
}

// The old folder is locked while it carries our name: who waits for that name must not take it for
// a folder under construction that was left behind.
void StagedDir::replace_target() {
  const LockedDir old = LockedDir::lock(target_, LOCK_EX);
  if (::renameat2(AT_FDCWD, path_.c_str(), AT_FDCWD, target_.c_str(), RENAME_EXCHANGE) == 0) {
    fs::remove_all(path_);
    return;
  }
  // A file system that cannot exchange names: for an instant there is none. The old folder leaves
  // its name whole; removed under it, it could be met with half of its files.
  if (errno != EINVAL && errno != ENOENT) fail(target_, "cannot be replaced");
  const fs::path replaced = replaced_name(target_);
  if (::rename(target_.c_str(), replaced.c_str()) != 0 && errno != ENOENT) {
    fail(target_, "cannot be replaced");
  }
  if (::rename(path_.c_str(), target_.c_str()) != 0) {
    fail(target_, "cannot be given its final name");
  }
  fs::remove_all(replaced);
}

void remove_abandoned_stages(const fs::path& parent) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(parent, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with('.') || !name.ends_with(kStageSuffix) || !entry.is_directory()) continue;
    const LockedDir lock = LockedDir::lock(entry.path(), LOCK_EX | LOCK_NB);
    if (lock) fs::remove_all(entry.path(), ignored);
  }
}

}  // namespace tidemill
