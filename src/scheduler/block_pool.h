// Hands out block numbers. A block is a value: the last holder's destructor gives it back.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace tidemill {

class BlockPool;

// One KV block, held. Destroying the last holder gives the block back to its pool, so a normal
// end, a cancelled request and an early return all free memory in the same way.
class BlockRef {
 public:
  BlockRef() = default;  // holds nothing
  BlockRef(BlockRef&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), id_(other.id_) {}
  BlockRef& operator=(BlockRef&& other) noexcept;
  ~BlockRef();

  BlockRef share() const;  // one more holder of the same block
  int32_t id() const { return id_; }
  explicit operator bool() const { return pool_ != nullptr; }

 private:
  friend class BlockPool;
  BlockRef(BlockPool* pool, int32_t id) : pool_(pool), id_(id) {}
  BlockPool* pool_ = nullptr;  // outlives every BlockRef; null when nothing is held
  int32_t id_ = -1;
};

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  // A block that nobody holds, preferring the one behind `after` so that a growing sequence's
  // blocks lie side by side, and then one that was held before: the first touch of memory takes a
  // while. Nothing when all are held.
  BlockRef take(std::optional<int32_t> after = {});

  int32_t num_used() const { return num_used_; }  // blocks 0, 1, ... that were ever held
  int64_t num_blocks() const { return static_cast<int64_t>(holders_.size()); }
  int64_t num_free() const { return num_free_; }
  int32_t holders(int32_t id) const { return holders_[static_cast<size_t>(id)]; }

 private:
  friend class BlockRef;
  void add_holder(int32_t id);
  void drop_holder(int32_t id);

  std::vector<int32_t> holders_;  // 0: free
  int64_t num_free_ = 0;
  int32_t num_used_ = 0;
  int32_t next_ = 0;  // where the search for a free block starts, among those that were used
};

}  // namespace tidemill
