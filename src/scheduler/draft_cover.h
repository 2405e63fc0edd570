// Which tokens a draft model has keys and values of. Its cache has the same blocks as the model's,
// and whoever shares a block of the one shares that of the other: so it is known by blocks, and a
// prefix that is found is found for both. Pure. Owned by the scheduler.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/sequence.h"

namespace tidemill {

class DraftCover {
 public:
  explicit DraftCover(int64_t num_blocks) : covered_(static_cast<size_t>(num_blocks), 0) {}

  // Of the first `num_tokens` of a table without gaps, how many it has before the first one that it
  // lacks.
  int32_t leading(const BlockTable& table, int32_t num_tokens) const;
  // It has computed the positions [begin, end), and all before them.
  void add(const BlockTable& table, int32_t begin, int32_t end);
  // From `begin` on other tokens stand in the table, up to `end`, than those it has computed.
  void forget(const BlockTable& table, int32_t begin, int32_t end);

 private:
  uint8_t& of(const BlockTable& table, int32_t block) {
    return covered_[static_cast<size_t>(table[static_cast<size_t>(block)].id())];
  }

  std::vector<uint8_t> covered_;  // by block: so many of its first tokens
};

}  // namespace tidemill
