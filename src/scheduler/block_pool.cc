#include "scheduler/block_pool.h"

#include <algorithm>

#include "base/check.h"

namespace tidemill {

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
    : holders_(static_cast<size_t>(num_blocks), 0), num_free_(num_blocks) {}

BlockRef BlockPool::take(std::optional<int32_t> after) {
  if (num_free_ == 0) return {};
  const auto size = static_cast<int32_t>(holders_.size());
  int32_t id = num_used_;
  if (after && *after + 1 < size && holders_[static_cast<size_t>(*after) + 1] == 0) {
    id = *after + 1;
  } else if (num_free_ > size - num_used_) {
    // Onwards from where the last search ended, so that free runs stay long.
    id = next_ < num_used_ ? next_ : 0;
    while (holders_[static_cast<size_t>(id)] != 0) id = id + 1 == num_used_ ? 0 : id + 1;
  }
  num_used_ = std::max(num_used_, id + 1);
  next_ = id + 1;
  add_holder(id);
  return BlockRef(this, id);
}

void BlockPool::add_holder(int32_t id) {
  if (holders_[static_cast<size_t>(id)]++ == 0) --num_free_;
}

void BlockPool::drop_holder(int32_t id) {
  int32_t& holders = holders_[static_cast<size_t>(id)];
  CHECK(holders > 0, "block {} was given back twice", id);
  if (--holders == 0) ++num_free_;
}

}  // namespace tidemill
