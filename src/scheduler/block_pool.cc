#include "scheduler/block_pool.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr uint8_t kAllFree = 0xff;
static_assert(kBlocksPerBundle == 8, "a bit each");

}  // namespace

BlockRef& BlockRef::operator=(BlockRef&& other) noexcept {
  std::swap(pool_, other.pool_);
  std::swap(id_, other.id_);
  return *this;
}

BlockRef::~BlockRef() {
  if (pool_ != nullptr) pool_->drop_holder(id_);
}

BlockRef BlockRef::share() const {
  CHECK(pool_ != nullptr, "sharing a block that is not held");
  pool_->add_holder(id_);
  return BlockRef(pool_, id_);
}

BlockPool::BlockPool(int64_t num_blocks)
    : holders_(static_cast<size_t>(num_blocks), 0),
      free_bits_(static_cast<size_t>((num_blocks + kBlocksPerBundle - 1) / kBlocksPerBundle), 0) {
  for (int32_t id = 0; id < static_cast<int32_t>(num_blocks); ++id) set_free(id, true);
}

bool BlockPool::goes_on(std::optional<int32_t> after) const {
  if (!after) return false;
  const int32_t id = *after + 1;
  return id % kBlocksPerBundle != 0 && id < static_cast<int32_t>(holders_.size()) &&
         holders_[static_cast<size_t>(id)] == 0;
}

BlockRef BlockPool::take(std::optional<int32_t> after) {
  if (num_free_ == 0) return {};
  int32_t id = 0;
  if (goes_on(after)) {
    id = *after + 1;
  } else {
    id = has_free_bundle() ? start_of_free_bundle() : start_of_longest_run();
  }
  num_used_ = std::max(num_used_, id + 1);
  add_holder(id);
  return BlockRef(this, id);
}

// The first one: those that were used are in front.
int32_t BlockPool::start_of_free_bundle() const {
  const auto found = std::find(free_bits_.begin(), free_bits_.end(), kAllFree);
  return static_cast<int32_t>(found - free_bits_.begin()) * kBlocksPerBundle;
}

int32_t BlockPool::start_of_longest_run() const {
  int32_t start = 0;
  int32_t longest = 0;
  for (size_t bundle = 0; bundle < free_bits_.size(); ++bundle) {
    for (int32_t i = 0; i + longest < kBlocksPerBundle; ++i) {
      const int32_t length = std::countr_one(static_cast<uint8_t>(free_bits_[bundle] >> i));
      if (length <= longest) continue;
      longest = length;
      start = static_cast<int32_t>(bundle) * kBlocksPerBundle + i;
    }
  }
  return start;
}

void BlockPool::set_free(int32_t id, bool is_free) {
  uint8_t& bits = free_bits_[static_cast<size_t>(id / kBlocksPerBundle)];
  num_free_bundles_ -= bits == kAllFree;
  bits = static_cast<uint8_t>(bits ^ (1 << id % kBlocksPerBundle));
  num_free_bundles_ += bits == kAllFree;
  num_free_ += is_free ? 1 : -1;
}

void BlockPool::add_holder(int32_t id) {
  if (holders_[static_cast<size_t>(id)]++ == 0) set_free(id, false);
}

void BlockPool::drop_holder(int32_t id) {
  int32_t& holders = holders_[static_cast<size_t>(id)];
  CHECK(holders > 0, "block {} was given back twice", id);
  if (--holders == 0) set_free(id, true);
}

}  // namespace tidemill
