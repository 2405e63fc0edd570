#include "memory_plan.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <optional>
#include <stdexcept>

#include "base/check.h"
#include "model/kv_cache.h"

namespace tidemill {
namespace {

// What is left after weights and workspace is not all ours: text, sockets and the page tables of
// the pool itself live there, too.
constexpr double kKvShare = 0.9;

std::optional<int64_t> read_number(const char* path) {
  std::ifstream in(path);
  int64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;  // no such file, or "max"
}

std::optional<int64_t> cgroup_room() {
  constexpr const char* kPairs[][2] = {
      {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
      {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
       "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
  };
  for (const auto& [limit_path, usage_path] : kPairs) {
    const auto limit = read_number(limit_path);
    const auto usage = read_number(usage_path);
    if (limit && usage) return std::max<int64_t>(0, *limit - *usage);
  }
  return std::nullopt;
}

std::optional<int64_t> machine_room() {
  std::ifstream in("/proc/meminfo");
  std::string name, unit;
  int64_t kibibytes = 0;
  while (in >> name >> kibibytes) {
    if (name == "MemAvailable:") return kibibytes * 1024;
    std::getline(in, unit);
  }
  return std::nullopt;
}

std::string mebibytes(int64_t bytes) {
  return format("{:10.1f} MiB", static_cast<double>(bytes) / (1024.0 * 1024.0));
}

}  // namespace

int64_t available_memory() {
  const int64_t none = std::numeric_limits<int64_t>::max();
  const int64_t room = std::min(machine_room().value_or(none), cgroup_room().value_or(none));
  CHECK(room != none, "neither /proc/meminfo nor a cgroup says how much memory there is");
  return room;
}

std::string MemoryPlan::table() const {
  return format(
      "  available        {}\n"
      "  weights          {}\n"
      "  workspace        {}\n"
      "  KV cache         {}  ({} blocks of {} tokens, {} bytes each)\n",
      mebibytes(available_bytes), mebibytes(weight_bytes), mebibytes(workspace_bytes),
      mebibytes(kv_bytes()), num_blocks, kTokensPerBlock, bytes_per_block);
}

MemoryPlan plan_memory(const Architecture& architecture, DType activation_type,
                       int64_t weight_bytes, const MemoryWishes& wishes) {
  MemoryPlan plan{
      .available_bytes = available_memory(),
      .weight_bytes = weight_bytes,
      .workspace_bytes = Decoder::workspace_bytes(architecture, activation_type, wishes.limits),
      .bytes_per_block = kv_bytes_per_block(architecture, activation_type)};
  const int64_t blocks_of_longest =
      (wishes.limits.max_model_len + kTokensPerBlock - 1) / kTokensPerBlock;
  plan.wanted_blocks = blocks_of_longest * wishes.max_sequences;
  const int64_t left = plan.available_bytes - plan.weight_bytes - plan.workspace_bytes;
  if (wishes.kv_cache_bytes > 0) {
    plan.num_blocks = wishes.kv_cache_bytes / plan.bytes_per_block;
  } else {
    const auto room = static_cast<int64_t>(static_cast<double>(left) * kKvShare);
    plan.num_blocks = std::clamp<int64_t>(room / plan.bytes_per_block, 0, plan.wanted_blocks);
  }
  if (plan.num_blocks < blocks_of_longest) {
    throw std::runtime_error(
        format("one sequence of max_model_len = {} tokens needs {} KV blocks, and {} fit:\n{}"
               "Lower max_model_len to {} or less, or give the process more memory.",
               wishes.limits.max_model_len, blocks_of_longest, plan.num_blocks, plan.table(),
               plan.num_blocks * kTokensPerBlock));
  }
  return plan;
}

}  // namespace tidemill
