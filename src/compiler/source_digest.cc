#include "compiler/source_digest.h"

#include <atomic>
#include <exception>
#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/digest.h"
#include "model/engine_dir.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

struct Source {
  FileIdentity identity;
  std::string name;
  std::string digest;  // empty until known
};

// Workers take one file after another: the shards of a large checkpoint are hashed side by side.
void hash_unknown(const std::vector<Source*>& unknown, WorkerPool& pool) {
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

std::string source_digest(const Checkpoint& checkpoint,
                          const std::optional<PackedFormat>& packed_format,
                          const DigestMemory& memory, WorkerPool& pool, const Progress& progress) {
  progress("digest", 0);
  std::vector<Source> sources;
  for (const FileIdentity& identity : checkpoint.sources()) {
    sources.push_back({.identity = identity,
                       .name = fs::path(identity.path).filename().string(),
                       .digest = memory.recall(identity)});
  }
  std::vector<Source*> unknown;
  for (Source& source : sources) {
    if (source.digest.empty()) unknown.push_back(&source);
  }
  hash_unknown(unknown, pool);
  // What was hashed is what was opened: else a digest would be remembered that belongs to others.
  checkpoint.check_unchanged();
  for (const Source* source : unknown) memory.remember(source->identity, source->digest);

  const Manifest defaults;
  std::string text =
      format("version {}\nlayout {}\nranks {}\nformat {}\n", kEngineVersion, defaults.layout_family,
             defaults.ranks, packed_format ? name_of(*packed_format) : "as stored");
  for (const Source& source : sources) text += format("{} {}\n", source.digest, source.name);
  return sha256_of(text);
}

}  // namespace tidemill
