#include "base/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>
#include <stdexcept>

#include "base/check.h"

namespace tidemill {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, const char* what) {
  throw std::runtime_error(format("{}: cannot {}: {}", path.string(), what, std::strerror(errno)));
}

// Mappings that are watched at the same time; a process has one per model.
constexpr size_t kMaxGuards = 64;

}  // namespace

// Read by a signal's handler, so nothing but atomics.
struct MappedFile::Guard {
  std::atomic<bool> taken = false;
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;  // 0: not watched
  std::atomic<bool> failed = false;
};
MappedFile::Guard MappedFile::guards_[kMaxGuards];

// In a signal's handler, on the thread that read. Puts a page of zeros where the file has none.
void MappedFile::on_bus_error(int signal, void* address) {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto page_bytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  for (Guard& guard : guards_) {
    if (at < guard.begin || at >= guard.end) continue;
    guard.failed = true;
    void* page = reinterpret_cast<void*>(at / page_bytes * page_bytes);
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (::mmap(page, page_bytes, PROT_READ, flags, -1, 0) != MAP_FAILED) return;
  }
  ::signal(signal, SIG_DFL);  // not ours: ends the process as soon as the handler has returned
  ::raise(signal);
}

MappedFile::Guard* MappedFile::watch(std::span<const std::byte> bytes) {
  static std::once_flag installed;
  std::call_once(installed, [] {
    struct sigaction action {};
    action.sa_sigaction = [](int number, siginfo_t* info, void*) {
      const int saved = errno;
      on_bus_error(number, info->si_addr);
      errno = saved;
    };
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    ::sigaction(SIGBUS, &action, nullptr);
  });
  for (Guard& guard : guards_) {
    if (guard.taken.exchange(true)) continue;
    guard.failed = false;
    guard.begin = reinterpret_cast<uintptr_t>(bytes.data());
    guard.end = guard.begin + bytes.size();
    return &guard;
  }
  return nullptr;
}

void MappedFile::set_aside(size_t offset, size_t count) const {
  const auto page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  const size_t begin = (offset + page_bytes - 1) / page_bytes * page_bytes;
  const size_t end = (offset + count) / page_bytes * page_bytes;
  if (begin >= end) return;
  // A refusal costs memory, nothing else.
  (void)::madvise(const_cast<std::byte*>(bytes_.data()) + begin, end - begin, MADV_DONTNEED);
}

bool MappedFile::has_failed() const { return guard_ != nullptr && guard_->failed; }

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path, "open");
  struct stat info {};
  const bool known = ::fstat(fd, &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    // What was wrong before this call stands in errno, too.
    if (known) errno = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
    const int reason = errno;
    ::close(fd);
    errno = reason;
    fail(path, "read as a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  if (size > 0) {
    void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (address == MAP_FAILED) {
      ::close(fd);
      fail(path, "map");
    }
    bytes_ = {static_cast<const std::byte*>(address), size};
    guard_ = watch(bytes_);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (guard_ != nullptr) {
    guard_->end = 0;
    guard_->taken = false;
  }
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace tidemill
