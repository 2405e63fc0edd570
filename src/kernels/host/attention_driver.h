// The attention of the host family: walks the plan's units (host/attention_plan.h), hands each
// partition's blocks to the variant's inner loop and merges.
#pragma once

#include <stdint.h>

#include <algorithm>

#include "kernels/element_bytes.h"
#include "kernels/host/attention_plan.h"
#include "kernels/host/inner.h"
#include "kernels/host/store_row.h"
#include "kernels/kernels.h"
#include "parallel/lane.h"

namespace tidemill::host {

struct AttentionCall {
  const Tensor& q;
  const AttentionShape& shape;
  const TokenRows& rows;
  const KvLayer& cache;
  const AttentionPlan& plan;
  const Tensor& out;
};

// One stack and one slice of query heads. Queries are rows times heads, a row's heads together.
template <const Inner& kInner>
class AttentionUnit {
 public:
  static constexpr int64_t kElementBytes = kInner.attention.state_element_bytes;
  static constexpr int64_t kMaxStatesBytes = kTaskQueries * state_bytes(kElementBytes, kMaxHeadDim);

  AttentionUnit(const AttentionCall& call, int64_t unit)
      : call_(call),
        stack_(call.plan.stacks[unit % call.plan.num_stacks]),
        padded_dim_(padded_head_dim(call.shape.head_dim)),
        state_bytes_(state_bytes(kElementBytes, call.shape.head_dim)) {
    const AttentionShape& shape = call.shape;
    const int64_t group = shape.num_heads / shape.num_kv_heads;
    const int64_t skipped = slice_of(unit) % slices_per_kv_head(shape) * kTaskQueries;
    kv_head_ = kv_head_of(unit);
    head_ = kv_head_ * group + skipped;
    heads_ = std::min(kTaskQueries, group - skipped);
    task_.keys = kv_block(call.cache, 0, kv_head_);
    task_.values = task_.keys + k_run_bytes(call.cache.type, shape.head_dim);
    task_.block_stride = static_cast<int64_t>(call.cache.block_stride);
    task_.bundle_stride = static_cast<int64_t>(call.cache.bundle_stride);
    task_.head_dim = shape.head_dim;
    task_.scale = shape.scale;
    const int64_t head_bytes = shape.head_dim * element_bytes(call.q.type);
    for (int64_t query = 0; query < num_queries(); ++query) {
      const int64_t row = row_at(query / heads_);
      q_[query] = row_of(call.q, row) + (head_ + query % heads_) * head_bytes;
      last_[query] = call.rows.positions[row];
      first_[query] = static_cast<int32_t>(first_attended(shape, last_[query]));
    }
  }

  // Lets the last tasks ask for the keys that `unit` begins with: the lane takes it up next.
  void expect(int64_t unit) {
    const int64_t row = call_.plan.rows[call_.plan.stacks[unit % call_.plan.num_stacks].begin];
    const int64_t last = call_.rows.positions[row];
    const int64_t begin = first_attended(call_.shape, last) / kTokensPerBlock;
    expected_ = first_group(kv_head_of(unit), row, begin, last / kTokensPerBlock + 1);
  }

  int64_t num_queries() const { return stack_.count * heads_; }
  int32_t num_partitions() const { return stack_.num_partitions; }

  void clear(unsigned char* states) const {
    for (int64_t query = 0; query < num_queries(); ++query) {
      kInner.attention.clear(states + query * state_bytes_, padded_dim_);
    }
  }

  // States of the unit's partition: what the queries that attend to it see in its blocks.
  void attend(int32_t partition, unsigned char* states) {
    clear(states);
    for (Part part = part_from(0, partition); is_part(part);) {
      const Part next = part_from(part.number + 1, partition);
      const bool ends_partition = !is_part(next) && partition + 1 < num_partitions();
      attend_part(part, ends_partition ? part_from(0, partition + 1) : next, states);
      part = next;
    }
  }

  void merge(int32_t partition, const unsigned char* states, unsigned char* totals) const {
    const int64_t index = stack_.first_partition + partition;
    for (int64_t query = 0; query < num_queries(); ++query) {
      const bool attends =
          first_[query] / kPartitionTokens <= index && last_[query] / kPartitionTokens >= index;
      if (!attends) continue;
      kInner.attention.merge(states + query * state_bytes_, padded_dim_,
                             totals + query * state_bytes_);
    }
  }

  void store_out(const unsigned char* totals) const {
    alignas(64) float values[kMaxHeadDim];
    for (int64_t query = 0; query < num_queries(); ++query) {
      kInner.attention.finish(totals + query * state_bytes_, padded_dim_, values);
      store<kInner>(values, call_.shape.head_dim, call_.out, row_at(query / heads_),
                    (head_ + query % heads_) * call_.shape.head_dim);
    }
  }

  unsigned char* slot(int64_t first_state, int32_t partition) const {
    return call_.plan.slots + (first_state + partition * num_queries()) * state_bytes_;
  }

 private:
  int64_t slice_of(int64_t unit) const { return unit / call_.plan.num_stacks; }
  int64_t kv_head_of(int64_t unit) const {
    return slice_of(unit) / slices_per_kv_head(call_.shape);
  }

  int64_t row_at(int64_t index) const { return call_.plan.rows[stack_.begin + index]; }

  // Blocks of a partition that a task reads.
  struct Part {
    int64_t number;  // 0: what all rows read in common; i: what the i-th of them reads alone
    int64_t begin, end;
  };
  // Of the (first) row of the part with that number.
  static int64_t index_in_stack(int64_t number) { return number == 0 ? 0 : number - 1; }

  Part part_at(int64_t number, int32_t partition) const {
    const int64_t begin = (stack_.first_partition + partition) * kPartitionBlocks;
    const int64_t end = begin + kPartitionBlocks;
    const int64_t query = index_in_stack(number) * heads_;
    const int64_t first_block = first_[query] / kTokensPerBlock;
    const int64_t shared = stack_.shared;
    if (number == 0) return {number, std::max(begin, first_block), std::min(end, shared)};
    const int64_t end_block = last_[query] / kTokensPerBlock + 1;
    return {number, std::max({begin, first_block, shared}), std::min(end, end_block)};
  }

  // The first one from `number` on that has blocks, or none.
  Part part_from(int64_t number, int32_t partition) const {
    for (; number <= stack_.count; ++number) {
      const Part part = part_at(number, partition);
      if (part.begin < part.end) return part;
    }
    return {number, 0, 0};
  }
  bool is_part(const Part& part) const { return part.number <= stack_.count; }

  // Of blocks begin .. end of a row's sequence.
  GroupKeys first_group(int64_t kv_head, int64_t row, int64_t begin, int64_t end) const {
    const int32_t* ids = call_.rows.block_ids + call_.rows.table_begins[row];
    const int64_t group_end = std::min(end, (begin / kGroupBlocks + 1) * kGroupBlocks);
    GroupKeys group{};
    for (int64_t block = begin; block < group_end; ++block) {
      group.of_block[group.count++] = kv_block(call_.cache, ids[block], kv_head);
    }
    return group;
  }

  // `next`: the part of the unit that comes behind it, if there is one.
  void attend_part(const Part& part, const Part& next, unsigned char* states) {
    const int64_t index = index_in_stack(part.number);
    const int64_t query = index * heads_;
    AttentionTask task = task_;
    task.num_queries = (part.number == 0 ? stack_.count : 1) * heads_;
    task.q = q_ + query;
    task.first = first_ + query;
    task.last = last_ + query;
    task.states = states + query * state_bytes_;
    task.block_ids = call_.rows.block_ids + call_.rows.table_begins[row_at(index)];
    task.begin = part.begin;
    task.end = part.end;
    task.sequence_end = std::max<int64_t>(stack_.shared, last_[query] / kTokensPerBlock + 1);
    task.next = is_part(next) ? first_group(kv_head_, row_at(index_in_stack(next.number)),
                                            next.begin, next.end)
                              : expected_;
    switch (call_.cache.type) {
      case DType::kF32:
        return kInner.attention.attend_f32(task);
      case DType::kBf16:
        return kInner.attention.attend_bf16(task);
      case DType::kInt8:
        return kInner.attention.attend_int8(task);
    }
  }

  const AttentionCall& call_;
  const Stack& stack_;
  const int64_t padded_dim_;
  const int64_t state_bytes_;
  int64_t kv_head_;
  int64_t head_;
  int64_t heads_;
  AttentionTask task_{};
  GroupKeys expected_{};  // of the unit behind this one
  const void* q_[kTaskQueries];
  int32_t first_[kTaskQueries];
  int32_t last_[kTaskQueries];
};

template <const Inner& kInner>
void plan_attention(Lane& lane, const AttentionShape& shape, const TokenRows& rows,
                    const AttentionMemory& memory) {
  if (lane.index() == 0) {
    make_attention_plan(shape, rows, lane.count(), kInner.attention.state_element_bytes, memory);
  }
  lane.meet();
}

// What lies between two cuts; `totals` is left with the states of the last unit where that goes on
// behind `end`. known_end: behind the last unit of those that the lane is known to take in turn.
template <const Inner& kInner>
void attend_between(const AttentionCall& call, const Cut& begin, const Cut& end, int64_t known_end,
                    unsigned char* totals) {
  using Unit = AttentionUnit<kInner>;
  alignas(64) unsigned char partition_states[Unit::kMaxStatesBytes];
  for (Cut at = begin; at < end; at = {at.unit + 1, 0, 0}) {
    Unit unit(call, at.unit);
    if (at.unit + 1 < known_end) unit.expect(at.unit + 1);
    const int32_t end_partition = at.partition + call.plan.partitions_behind(at, end);
    const bool has_beginning = at.partition == 0;
    if (unit.num_partitions() == 1) {  // its states are the totals
      unit.attend(0, totals);
      unit.store_out(totals);
      continue;
    }
    if (has_beginning) unit.clear(totals);
    for (int32_t p = at.partition; p < end_partition; ++p) {
      unsigned char* states =
          has_beginning ? partition_states : unit.slot(begin.slot, p - begin.partition);
      unit.attend(p, states);
      if (has_beginning) unit.merge(p, states, totals);
    }
    if (has_beginning && end_partition == unit.num_partitions()) unit.store_out(totals);
  }
}

// After a meeting: the lane that has the beginning of a cut unit merges what others left.
template <const Inner& kInner>
void merge_cut_unit(const AttentionCall& call, int lane, int num_lanes, unsigned char* totals) {
  const Cut* cuts = call.plan.cuts;
  const Cut& end = cuts[lane + 1];
  const bool has_beginning = cuts[lane] < Cut{end.unit, 1, 0};
  if (end.partition == 0 || !has_beginning) return;
  AttentionUnit<kInner> unit(call, end.unit);
  for (int i = lane + 1; i < num_lanes && cuts[i].unit == end.unit; ++i) {
    const int32_t count = call.plan.partitions_behind(cuts[i], cuts[i + 1]);
    for (int32_t p = 0; p < count; ++p) {
      unit.merge(cuts[i].partition + p, unit.slot(cuts[i].slot, p), totals);
    }
  }
  unit.store_out(totals);
}

template <const Inner& kInner>
void attention(Lane& lane, Tensor q, const AttentionShape& shape, const TokenRows& rows,
               KvLayer cache, const AttentionMemory& memory, Tensor out) {
  const AttentionPlan& plan = attention_plan(memory);
  const AttentionCall call{q, shape, rows, cache, plan, out};
  alignas(64) unsigned char totals[AttentionUnit<kInner>::kMaxStatesBytes];
  if (rows.count > 0 && plan.has_cut_unit) {
    const Cut& end = plan.cuts[lane.index() + 1];
    attend_between<kInner>(call, plan.cuts[lane.index()], end, plan.end_unit(lane.index()), totals);
    if (kInner.end_share != nullptr) kInner.end_share();
    lane.meet();
    merge_cut_unit<kInner>(call, lane.index(), lane.count(), totals);
  } else if (rows.count > 0) {
    const auto share = [&](int owner) {
      return Range{plan.cuts[owner].unit, plan.cuts[owner + 1].unit};
    };
    lane.share_out(share, {.most = 1, .least = 1}, [&](Range units) {
      const bool is_own = units.begin >= plan.cuts[lane.index()].unit;
      const int64_t known_end = is_own ? plan.end_unit(lane.index()) : units.end;
      attend_between<kInner>(call, {units.begin, 0, 0}, {units.end, 0, 0}, known_end, totals);
    });
    if (kInner.end_share != nullptr) kInner.end_share();
  }
  lane.meet();
}

}  // namespace tidemill::host
