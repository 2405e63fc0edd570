#include "model/kv_ahead.h"

namespace tidemill {
namespace {

class Runs {
 public:
  explicit Runs(std::span<MemoryRun> runs) : runs_(runs) {}

  bool full() const { return count_ == runs_.size(); }
  size_t count() const { return count_; }
  void add(int64_t begin, int64_t bytes) {
    if (count_ > 0 && runs_[count_ - 1].begin + runs_[count_ - 1].bytes == begin) {
      runs_[count_ - 1].bytes += bytes;
    } else if (!full()) {
      runs_[count_++] = {begin, bytes};
    }
  }

 private:
  std::span<MemoryRun> runs_;
  size_t count_ = 0;
};

}  // namespace

size_t find_kv_runs(const AttentionShape& shape, const TokenRows& rows, Range units,
                    const KvLayer& layer, std::span<MemoryRun> runs) {
  Runs found(runs);
  for (int64_t unit = units.begin; unit < units.end && !found.full(); ++unit) {
    const int64_t head = unit / rows.count;
    const int64_t row = unit % rows.count;
    const int32_t position = rows.positions[row];
    const int32_t* const table = rows.block_ids + rows.table_begins[row];
    const bool goes_on =
        unit > units.begin && row > 0 && rows.block_ids + rows.table_begins[row - 1] == table;
    // Of a sequence that has several rows only what the one before has not attended to.
    const int64_t first = goes_on ? int64_t{rows.positions[row - 1]} + kTokensPerBlock
                                  : first_attended(shape, position);
    const int64_t end = position / kTokensPerBlock + 1;
    for (int64_t i = first / kTokensPerBlock; i < end;) {
      int64_t next = i + 1;
      while (next < end && table[next] == table[next - 1] + 1 && table[next] % kBundleBlocks != 0) {
        ++next;
      }
      found.add(kv_block(layer, table[i], head) - layer.data,
                (next - i) * static_cast<int64_t>(layer.block_stride));
      i = next;
    }
  }
  return found.count();
}

KvAhead::KvAhead(Lane& lane, Range units, const AttentionShape& shape, const TokenRows& rows,
                 const KvLayer& layer)
    : lane_(lane), num_runs_(find_kv_runs(shape, rows, units, layer, runs_)) {}

void KvAhead::want(const KvLayer& layer) {
  ahead_ = {layer.data, runs_.data(), runs_.data() + num_runs_, 0};
  lane_.want(&ahead_);
}

}  // namespace tidemill
