#include "kernels/host/attention_share.h"

#include <algorithm>

namespace tidemill::host {
namespace {

int64_t blocks_of(const TokenRows& rows, const AttentionShape& shape, int64_t row) {
  const int64_t last = rows.positions[row];
  return last / kTokensPerBlock - first_attended(shape, last) / kTokensPerBlock + 1;
}

}  // namespace

int64_t first_attended(const AttentionShape& shape, int64_t position) {
  return shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
}

Range share_attention(const Lane& lane, const TokenRows& rows, const AttentionShape& shape) {
  if (rows.count == 0) return {};
  int64_t head_blocks = 0;
  for (int64_t row = 0; row < rows.count; ++row) head_blocks += blocks_of(rows, shape, row);
  // The first unit with at least that many blocks before it.
  const auto unit_behind = [&](int64_t blocks) {
    int64_t unit = blocks / head_blocks * rows.count;
    int64_t left = blocks % head_blocks;
    for (int64_t row = 0; left > 0; ++row, ++unit) left -= blocks_of(rows, shape, row);
    return unit;
  };
  const int64_t blocks = shape.num_kv_heads * head_blocks;
  return {.begin = unit_behind(blocks * lane.index() / lane.count()),
          .end = unit_behind(blocks * (lane.index() + 1) / lane.count())};
}

}  // namespace tidemill::host
