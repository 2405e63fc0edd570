#include "model/memory_plan.h"

#include <algorithm>

#include "base/check.h"
#include "base/round_up.h"
#include "kernels/element_bytes.h"
#include "model/kv_cache.h"

namespace tidemill {
namespace {

// What is left after weights and workspace is not all ours: text, sockets and the page tables of
// the pool itself live there, too.
constexpr double kKvShare = 0.9;

std::string mebibytes(int64_t bytes) {
  return format("{:.1f} MiB", static_cast<double>(bytes) / (1024.0 * 1024.0));
}

}  // namespace

// Of a cache with so many blocks: bundles are whole.
int64_t MemoryPlan::bytes_of(int64_t blocks) const {
  return round_up(blocks, kBundleBlocks) * bytes_per_block;
}

std::string MemoryPlan::table() const {
  return format(
      "  available    {:>14}\n"
      "  weights      {:>14}\n"
      "  workspace    {:>14}\n"
      "  KV cache     {:>14}  ({} blocks of {} tokens, {} bytes each, {})\n",
      mebibytes(available_bytes), mebibytes(weight_bytes), mebibytes(workspace_bytes),
      mebibytes(kv_bytes()), num_blocks, kTokensPerBlock, bytes_per_block, name_of(cache));
}

std::string MemoryPlan::refusal() const {
  const int64_t left = available_bytes - weight_bytes - workspace_bytes;
  const int64_t longest_bytes = bytes_of(longest_blocks);
  const bool fits = kv_bytes() <= left;
  if (fits && num_blocks >= longest_blocks) return "";

  const std::string sequence = format(
      "one sequence of max_model_len = {} tokens needs {} KV blocks ({}, as they come by {})",
      wishes.limits.max_model_len, longest_blocks, mebibytes(longest_bytes), kBundleBlocks);
  const std::string shorter =
      num_blocks > 0 ? format("lower max_model_len to {} or less", num_blocks * kTokensPerBlock)
                     : "choose a smaller model or dtype";
  const std::string smaller = fits_as_int8 ? ", set kv_cache_dtype=int8" : "";
  if (wishes.kv_cache_bytes == 0) {
    return format("{}, and {} fit:\n{}Give the process more memory{}, or {}.", sequence, num_blocks,
                  table(), smaller, shorter);
  }
  if (fits) {
    return format(
        "kv_cache_bytes is {}: {}, and {} fit:\n{}Raise kv_cache_bytes to {} or more{}{}.",
        wishes.kv_cache_bytes, sequence, num_blocks, table(), longest_bytes, smaller,
        num_blocks > 0 ? ", or " + shorter : "");
  }
  const std::string lower =
      left >= longest_bytes ? format("Lower kv_cache_bytes to {} or less, or give", left) : "Give";
  return format(
      "kv_cache_bytes is {}, and weights and workspace leave {}:\n{}{} the process more memory.",
      wishes.kv_cache_bytes, mebibytes(std::max<int64_t>(left, 0)), table(), lower);
}

namespace {

MemoryPlan plan_with(const Architecture& architecture, const ComputeTypes& types,
                     int64_t weight_bytes, const MemoryWishes& wishes, int64_t available_bytes) {
  MemoryPlan plan{
      .wishes = wishes,
      .cache = types.cache(),
      .available_bytes = available_bytes,
      .weight_bytes = weight_bytes + wishes.companion.weight_bytes,
      .workspace_bytes = Decoder::workspace_bytes(architecture, types, wishes.limits) +
                         wishes.companion.workspace_bytes,
      .bytes_per_block =
          kv_bytes_per_block(architecture, types.cache()) + wishes.companion.bytes_per_block,
      .longest_blocks = (wishes.limits.max_model_len + kTokensPerBlock - 1) / kTokensPerBlock};
  const int64_t bundle_bytes = kBundleBlocks * plan.bytes_per_block;
  if (wishes.kv_cache_bytes > 0) {
    plan.num_blocks = wishes.kv_cache_bytes / bundle_bytes * kBundleBlocks;
    return plan;
  }
  const int64_t left = plan.available_bytes - plan.weight_bytes - plan.workspace_bytes;
  const auto room = static_cast<int64_t>(static_cast<double>(left) * kKvShare);
  // More could never be used at once by running sequences.
  const int64_t useful = plan.longest_blocks * wishes.max_sequences;
  plan.num_blocks = std::clamp<int64_t>(room / bundle_bytes * kBundleBlocks, 0, useful);
  return plan;
}

}  // namespace

MemoryPlan plan_memory(const Architecture& architecture, const ComputeTypes& types,
                       int64_t weight_bytes, const MemoryWishes& wishes, int64_t available_bytes) {
  MemoryPlan plan = plan_with(architecture, types, weight_bytes, wishes, available_bytes);
  if (types.int8_cache) return plan;
  ComputeTypes smaller = types;
  smaller.int8_cache = true;
  plan.fits_as_int8 =
      plan_with(architecture, smaller, weight_bytes, wishes, available_bytes).refusal().empty();
  return plan;
}

}  // namespace tidemill
