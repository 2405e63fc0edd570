#include "compiler/source_digest.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <exception>
#include <fstream>
#include <system_error>
#include <vector>

#include "base/check.h"
#include "base/digest.h"
#include "base/json.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kNanosecondsPerSecond = 1'000'000'000;
constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;

// What changes when a file is written or replaced, as far as the file system tells.
struct FileIdentity {
  std::string path;
  int64_t size = 0;
  int64_t modified_ns = 0;
  int64_t changed_ns = 0;
  int64_t inode = 0;
  int64_t device = 0;
};

int64_t nanoseconds(const timespec& time) {
  return int64_t{time.tv_sec} * kNanosecondsPerSecond + time.tv_nsec;
}

FileIdentity identity_of(const fs::path& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) {
    throw std::runtime_error(
        format("{}: {}", path.string(), std::generic_category().message(errno)));
  }
  return {.path = fs::absolute(path).string(),
          .size = status.st_size,
          .modified_ns = nanoseconds(status.st_mtim),
          .changed_ns = nanoseconds(status.st_ctim),
          .inode = static_cast<int64_t>(status.st_ino),
          .device = static_cast<int64_t>(status.st_dev)};
}

std::string key_of(const FileIdentity& identity) {
  return sha256_of(format("{}\n{}\n{}\n{}\n{}\n{}", identity.path, identity.size,
                          identity.modified_ns, identity.changed_ns, identity.inode,
                          identity.device));
}

bool is_settled(const FileIdentity& identity, const DigestMemory& memory) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  const int64_t age = nanoseconds(now) - std::max(identity.modified_ns, identity.changed_ns);
  return age > memory.settle_ms * kNanosecondsPerMillisecond;
}

// One small file per digest, named by the identity.
std::string recall(const DigestMemory& memory, const FileIdentity& identity) {
  std::ifstream file(memory.dir / key_of(identity));
  std::string digest;
  file >> digest;
  return digest.size() == 64 ? digest : "";
}

// It only saves time: failing to write is no failure.
void remember(const DigestMemory& memory, const FileIdentity& identity, const std::string& digest) {
  if (!is_settled(identity, memory)) return;
  std::error_code ignored;
  fs::create_directories(memory.dir, ignored);
  const fs::path path = memory.dir / key_of(identity);
  const fs::path temporary = path.string() + format(".{}", ::getpid());
  std::ofstream(temporary) << digest << '\n';
  fs::rename(temporary, path, ignored);
}

struct SourceFile {
  FileIdentity identity;
  std::string name;
  std::string digest;  // empty until known
};

// Workers take one file after another: the shards of a large checkpoint are hashed side by side.
void hash_unknown(const std::vector<SourceFile*>& unknown, WorkerPool& pool) {
  std::atomic<size_t> next{0};
  std::vector<std::exception_ptr> failures(unknown.size());
  pool.run([&](Lane&) {
    for (size_t i = next++; i < unknown.size(); i = next++) {
      try {
        unknown[i]->digest = sha256_of_file(unknown[i]->identity.path);
      } catch (...) {
        failures[i] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& failure : failures) {
    if (failure != nullptr) std::rethrow_exception(failure);
  }
}

}  // namespace

std::string source_digest(const Checkpoint& checkpoint, PackedFormat packed_format,
                          const DigestMemory& memory, WorkerPool& pool, const Progress& progress) {
  progress("digest", 0);
  std::vector<SourceFile> files;
  for (const fs::path& path : checkpoint.source_files()) {
    const FileIdentity identity = identity_of(path);
    files.push_back({.identity = identity,
                     .name = path.filename().string(),
                     .digest = recall(memory, identity)});
  }
  std::vector<SourceFile*> unknown;
  for (SourceFile& file : files) {
    if (file.digest.empty()) unknown.push_back(&file);
  }
  hash_unknown(unknown, pool);
  for (const SourceFile* file : unknown) remember(memory, file->identity, file->digest);

  const Manifest defaults;
  std::string text = format("version {}\nlayout {}\nranks {}\nformat {}\n", kEngineVersion,
                            defaults.layout_family, defaults.ranks, name_of(packed_format));
  for (const SourceFile& file : files) text += format("{} {}\n", file.digest, file.name);
  return sha256_of(text);
}

}  // namespace tidemill
