#include "scheduler/draft_cover.h"

#include <algorithm>

#include "scheduler/prefix_cache.h"

namespace tidemill {

int32_t DraftCover::leading(const BlockTable& table, int32_t num_tokens) const {
  int32_t count = 0;
  for (const BlockRef& block : table) {
    if (count >= num_tokens) break;
    const int32_t in_block = covered_[static_cast<size_t>(block.id())];
    count += in_block;
    if (in_block < kBlockTokens) break;
  }
  return std::min(count, num_tokens);
}

void DraftCover::add(const BlockTable& table, int32_t begin, int32_t end) {
  for (int32_t block = begin / kBlockTokens; block * kBlockTokens < end; ++block) {
    const int32_t in_block = std::min(kBlockTokens, end - block * kBlockTokens);
    of(table, block) = static_cast<uint8_t>(std::max<int32_t>(of(table, block), in_block));
  }
}

void DraftCover::forget(const BlockTable& table, int32_t begin, int32_t end) {
  for (int32_t block = begin / kBlockTokens; block * kBlockTokens < end; ++block) {
    const int32_t before = std::max(0, begin - block * kBlockTokens);
    of(table, block) = static_cast<uint8_t>(std::min<int32_t>(of(table, block), before));
  }
}

}  // namespace tidemill
