#include "checkpoint/source_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

#include "base/check.h"
#include "checkpoint/checkpoint.h"

namespace tidemill {
namespace {

// Opening a pipe that nobody writes to would wait for ever.
int open_regular(const std::filesystem::path& path) {
  if (!std::filesystem::is_regular_file(path)) {
    throw CheckpointError(format("{} must be a file.", path.string()));
  }
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    throw CheckpointError(
        format("{} cannot be read: {}.", path.string(), std::generic_category().message(errno)));
  }
  return fd;
}

}  // namespace

SourceFile::SourceFile(const std::filesystem::path& path)
    : name_(path.string()), fd_(open_regular(path)), identity_(identity_of(fd_, path)) {}

SourceFile::SourceFile(std::vector<std::byte> bytes, std::string name)
    : name_(std::move(name)), memory_(std::move(bytes)) {
  identity_.size = static_cast<int64_t>(memory_.size());
}

SourceFile::~SourceFile() {
  if (fd_ >= 0) ::close(fd_);
}

void SourceFile::read(uint64_t offset, std::span<std::byte> out) const {
  CHECK(offset <= size() && out.size() <= size() - offset, "{} bytes at {} of {} with {}",
        out.size(), offset, name(), size());
  if (fd_ < 0) {
    std::copy_n(memory_.data() + offset, out.size(), out.data());
    return;
  }
  while (!out.empty()) {
    const ssize_t count = ::pread(fd_, out.data(), out.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) {
      throw CheckpointError(format("{}: at byte {}: cannot be read: {}.", name(), offset,
                                   std::generic_category().message(errno)));
    }
    if (count == 0) {
      throw CheckpointError(
          format("{}: at byte {}: nothing is left, and it had {} bytes when it was opened: it was "
                 "cut off while it was read. Start again when nobody writes to it.",
                 name(), offset, size()));
    }
    offset += static_cast<uint64_t>(count);
    out = out.subspan(static_cast<size_t>(count));
  }
}

}  // namespace tidemill
