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

// Blocks 8 b .. 8 b + 7 are a bundle: neighbours in it are read faster one behind the other.
// executor/ checks that the kernels mean the same number.
inline constexpr int32_t kBlocksPerBundle = 8;

class BlockPool {
 public:
  explicit BlockPool(int64_t num_blocks);

  // A block that nobody holds, so that a growing sequence's blocks lie side by side: the one behind
  // `after` in its bundle; or else the first of a bundle of which none is held, rather one that was
  // held before, for the first touch of memory takes a while; or else the first of the longest run
  // that is free. Nothing when all are held.
  BlockRef take(std::optional<int32_t> after = {});
  // That the block behind `after` can be taken, and is in its bundle.
  bool goes_on(std::optional<int32_t> after) const;
  bool has_free_bundle() const { return num_free_bundles_ > 0; }

  int32_t num_used() const { return num_used_; }  // behind it no block was ever held
  int64_t num_blocks() const { return static_cast<int64_t>(holders_.size()); }
  int64_t num_free() const { return num_free_; }
  int32_t holders(int32_t id) const { return holders_[static_cast<size_t>(id)]; }

 private:
  friend class BlockRef;
  void add_holder(int32_t id);
  void drop_holder(int32_t id);
  void set_free(int32_t id, bool is_free);
  int32_t start_of_free_bundle() const;
  int32_t start_of_longest_run() const;

  std::vector<int32_t> holders_;    // 0: free
  std::vector<uint8_t> free_bits_;  // of a bundle: bit i is set where its block i is free
  int64_t num_free_ = 0;
  int64_t num_free_bundles_ = 0;  // whole ones
  int32_t num_used_ = 0;
};

}  // namespace tidemill
