#include "compiler/digest_memory.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <system_error>

#include "base/check.h"
#include "base/digest.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

std::string key_of(const FileIdentity& identity) {
  return sha256_of(format("{}\n{}\n{}\n{}\n{}\n{}", identity.path, identity.size,
                          identity.modified_ns, identity.changed_ns, identity.inode,
                          identity.device));
}

bool is_settled(const FileIdentity& identity, int64_t settle_ms) {
  constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const int64_t now_ns = int64_t{now.tv_sec} * 1000 * kNanosecondsPerMillisecond + now.tv_nsec;
  const int64_t age = now_ns - std::max(identity.modified_ns, identity.changed_ns);
  return age > settle_ms * kNanosecondsPerMillisecond;
}

}  // namespace

std::string DigestMemory::recall(const FileIdentity& identity) const {
  if (dir.empty()) return "";
  std::ifstream file(dir / key_of(identity));
  std::string digest;
  file >> digest;
  return digest.size() == 64 ? digest : "";
}

// It only saves time: failing to write is no failure.
void DigestMemory::remember(const FileIdentity& identity, const std::string& digest) const {
  if (dir.empty() || !is_settled(identity, settle_ms)) return;
  std::error_code ignored;
  fs::create_directories(dir, ignored);
  const fs::path path = dir / key_of(identity);
  const fs::path temporary = path.string() + format(".{}", ::getpid());
  std::ofstream(temporary) << digest << '\n';
  fs::rename(temporary, path, ignored);
}

}  // namespace tidemill
