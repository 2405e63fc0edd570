#include "kernels/host/attention_plan.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace tidemill {
namespace host {
namespace {

// Shorter common prefixes are not worth a stack: a block more or less in a few hundred.
constexpr int64_t kMinSharedBlocks = 4;

// What a block costs in queries: reading it takes about as long as the arithmetic of so many.
constexpr int64_t kReadCost = 8;

// Most lanes that a plan has cuts for.
constexpr int64_t kMaxCutLanes = 1024;

int64_t aligned(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// Where the parts of the plan begin, in bytes. A row more costs a line, however many there are.
struct Layout {
  explicit Layout(int64_t max_rows)
      : stacks(aligned(sizeof(AttentionPlan))),
        rows(stacks + max_rows * static_cast<int64_t>(sizeof(Stack))),
        cuts(stacks + 64 * max_rows),
        slots(cuts + aligned((kMaxCutLanes + 1) * static_cast<int64_t>(sizeof(Cut)))) {}
  int64_t stacks, rows, cuts, slots;
};
static_assert(sizeof(Stack) + sizeof(int32_t) <= 64);

class Planner {
 public:
  Planner(const AttentionShape& shape, const TokenRows& rows, AttentionPlan& plan)
      : shape_(shape), rows_(rows), plan_(plan), heads_(slice_heads(shape)) {}

  void stack_rows() {
    const int64_t singles = stack_chunks();
    if (shape_.window > 0) {
      for (int64_t i = singles; i < plan_.num_rows; ++i) add_stack(i, 1, 0);
    } else {
      stack_prefixes(singles);
    }
  }

  void cut_for(int num_lanes, int64_t slot_capacity) {
    const int64_t lane_share = plan_.slices * cost_ / num_lanes;
    plan_.cuts[0] = {0, 0, 0};
    plan_.cuts[num_lanes] = {plan_.slices * plan_.num_stacks, 0, 0};
    plan_.has_cut_unit = false;
    int64_t used = 0;
    for (int i = num_lanes - 1; i > 0; --i) {
      // Without overflow for any number of lanes: the product of costs and lanes fits 64 bits.
      Cut cut = nearest(plan_.slices * cost_ * i / num_lanes, lane_share / 32);
      const Cut& next = plan_.cuts[i + 1];
      if (next < cut) cut = next;
      if (cut.partition > 0) {
        const int64_t queries = stack_of(cut).count * heads_;
        const int64_t needed = plan_.partitions_behind(cut, next) * queries;
        if (used + needed > slot_capacity) {
          cut = next.unit == cut.unit ? next : Cut{cut.unit + 1, 0, 0};
        } else {
          cut.slot = static_cast<int32_t>(used);
          used += needed;
        }
      }
      plan_.has_cut_unit |= cut.partition > 0;
      plan_.cuts[i] = cut;
    }
  }

 private:
  const Stack& stack_of(const Cut& cut) const { return plan_.stacks[cut.unit % plan_.num_stacks]; }
  int64_t position(int64_t row) const { return rows_.positions[row]; }
  int64_t first_block(int64_t row) const {
    return first_attended(shape_, position(row)) / kTokensPerBlock;
  }
  int64_t end_block(int64_t row) const { return position(row) / kTokensPerBlock + 1; }
  const int32_t* table(int64_t row) const { return rows_.block_ids + rows_.table_begins[row]; }
  bool follows(int64_t row) const {
    return rows_.table_begins[row] == rows_.table_begins[row - 1] &&
           rows_.positions[row] > rows_.positions[row - 1];
  }

  // Rows of one sequence that follow each other become stacks; the others are left at the end of
  // plan.rows. Returns where those begin.
  int64_t stack_chunks() {
    const int64_t most = max_rows();
    int64_t stacked = 0;
    int64_t singles = rows_.count;
    for (int64_t row = 0; row < rows_.count;) {
      int64_t end = row + 1;
      while (end < rows_.count && follows(end)) ++end;
      if (end - row == 1) {
        plan_.rows[--singles] = static_cast<int32_t>(row++);
        continue;
      }
      while (row < end) {
        const int64_t count = std::min(most, end - row);
        const int64_t begin = stacked;
        for (int64_t i = 0; i < count; ++i) plan_.rows[stacked++] = static_cast<int32_t>(row++);
        add_stack(begin, count, end_block(row - 1));
      }
    }
    return singles;
  }

  // Of a stack: such that its queries fill whole tiles, where the heads allow that.
  int64_t max_rows() const {
    const int64_t most = std::max<int64_t>(1, kTaskQueries / heads_);
    const int64_t whole = kQueryTile / std::gcd(kQueryTile, heads_);
    return most < whole ? most : most / whole * whole;
  }

  // Whole groups of blocks that a row attends to and that its sequence has in common with
  // another's, in blocks.
  int64_t common_blocks(int64_t a, int64_t b) const {
    const int64_t most = (std::min(position(a), position(b)) + 1) / kTokensPerBlock;
    const int64_t common = std::mismatch(table(a), table(a) + most, table(b)).first - table(a);
    return common / kGroupBlocks * kGroupBlocks;
  }

  // Tables in alphabetical order: those with the longest common heads are neighbours.
  void stack_prefixes(int64_t begin) {
    std::sort(plan_.rows + begin, plan_.rows + plan_.num_rows, [this](int32_t a, int32_t b) {
      const int64_t a_blocks = (position(a) + 1) / kTokensPerBlock;
      const int64_t b_blocks = (position(b) + 1) / kTokensPerBlock;
      const auto [at, bt] =
          std::mismatch(table(a), table(a) + std::min(a_blocks, b_blocks), table(b));
      if (at != table(a) + std::min(a_blocks, b_blocks)) return *at < *bt;
      return a_blocks != b_blocks ? a_blocks < b_blocks : a < b;
    });
    for (int64_t i = begin; i < plan_.num_rows;) {
      int64_t shared = (position(plan_.rows[i]) + 1) / kTokensPerBlock;
      int64_t count = 1;
      for (; i + count < plan_.num_rows && count < max_rows(); ++count) {
        const int64_t common = common_blocks(plan_.rows[i], plan_.rows[i + count]);
        const int64_t with_it = std::min(shared, common);
        // Each row but the first saves what is shared; one more must not save less.
        if (with_it < kMinSharedBlocks || count * with_it < (count - 1) * shared) break;
        shared = with_it;
      }
      add_stack(i, count, count > 1 ? shared : 0);
      i += count;
    }
  }

  void add_stack(int64_t begin, int64_t count, int64_t shared) {
    int64_t first = first_block(plan_.rows[begin]);
    int64_t end = 0;
    for (int64_t i = begin; i < begin + count; ++i) {
      first = std::min(first, first_block(plan_.rows[i]));
      end = std::max(end, end_block(plan_.rows[i]));
    }
    Stack& stack = plan_.stacks[plan_.num_stacks++];
    const auto first_partition = static_cast<int32_t>(first / kPartitionBlocks);
    const auto end_partition = static_cast<int32_t>((end - 1) / kPartitionBlocks + 1);
    stack = {.begin = static_cast<int32_t>(begin),
             .count = static_cast<int32_t>(count),
             .shared = static_cast<int32_t>(shared),
             .first_partition = first_partition,
             .num_partitions = end_partition - first_partition,
             .cost_before = cost_};
    for (int32_t p = 0; p < stack.num_partitions; ++p) cost_ += cost_of(stack, p);
  }

  int64_t cost_of(const Stack& stack, int32_t partition) const {
    const int64_t begin = (stack.first_partition + partition) * kPartitionBlocks;
    const int64_t end = begin + kPartitionBlocks;
    const int64_t first = first_block(plan_.rows[stack.begin]);
    const int64_t shared = std::min<int64_t>(end, stack.shared) - std::max(begin, first);
    int64_t own = 0;
    for (int64_t i = stack.begin; i < stack.begin + stack.count; ++i) {
      const int64_t row = plan_.rows[i];
      const int64_t behind = std::max({begin, first_block(row), int64_t{stack.shared}});
      own += std::max<int64_t>(0, std::min(end, end_block(row)) - behind);
    }
    return std::max<int64_t>(0, shared) * std::max(kReadCost, stack.count * heads_) +
           own * std::max(kReadCost, heads_);
  }

  // The cut nearest to a point of the work: a unit's edge where that is no farther than
  // `tolerance`.
  Cut nearest(int64_t point, int64_t tolerance) const {
    const int64_t slice = point / cost_;
    const int64_t rest = point % cost_;
    const Stack* behind =
        std::upper_bound(plan_.stacks, plan_.stacks + plan_.num_stacks, rest,
                         [](int64_t cost, const Stack& stack) { return cost < stack.cost_before; });
    const Stack& stack = behind[-1];
    const int64_t index = &stack - plan_.stacks;
    const int64_t unit = slice * plan_.num_stacks + index;
    const int64_t cost =
        (index + 1 < plan_.num_stacks ? behind->cost_before : cost_) - stack.cost_before;
    const int64_t inside = rest - stack.cost_before;
    const Cut edge = 2 * inside < cost ? Cut{unit, 0, 0} : Cut{unit + 1, 0, 0};
    if (std::min(inside, cost - inside) <= tolerance) return edge;
    int64_t before = 0;
    for (int32_t p = 0; p < stack.num_partitions; ++p) {
      const int64_t here = cost_of(stack, p);
      if (2 * (inside - before) < here) return {unit, p, 0};
      before += here;
    }
    return {unit + 1, 0, 0};
  }

  const AttentionShape& shape_;
  const TokenRows& rows_;
  AttentionPlan& plan_;
  const int64_t heads_;
  int64_t cost_ = 0;  // of all stacks, for one slice
};

}  // namespace

int64_t slice_heads(const AttentionShape& shape) {
  return std::min(kTaskQueries, shape.num_heads / shape.num_kv_heads);
}

int64_t slices_per_kv_head(const AttentionShape& shape) {
  return (shape.num_heads / shape.num_kv_heads + kTaskQueries - 1) / kTaskQueries;
}

AttentionPlan* make_attention_plan(const AttentionShape& shape, const TokenRows& rows,
                                   int num_lanes, int64_t element_bytes,
                                   const AttentionMemory& memory) {
  const Layout layout(rows.count);
  auto* base = static_cast<unsigned char*>(memory.data);
  auto* plan = static_cast<AttentionPlan*>(memory.data);
  CHECK(layout.slots <= memory.bytes, "a plan of {} rows in {} bytes", rows.count, memory.bytes);
  *plan = {.num_rows = rows.count,
           .num_stacks = 0,
           .slices = shape.num_kv_heads * slices_per_kv_head(shape),
           .has_cut_unit = false,
           .rows = reinterpret_cast<int32_t*>(base + layout.rows),
           .stacks = reinterpret_cast<Stack*>(base + layout.stacks),
           .cuts = reinterpret_cast<Cut*>(base + layout.cuts),
           .slots = base + layout.slots};
  CHECK(num_lanes <= kMaxCutLanes, "attention for {} lanes; at most {}", num_lanes, kMaxCutLanes);
  Planner planner(shape, rows, *plan);
  planner.stack_rows();
  const int64_t capacity =
      (memory.bytes - layout.slots) / state_bytes(element_bytes, shape.head_dim);
  if (rows.count > 0) planner.cut_for(num_lanes, capacity);
  return plan;
}

const AttentionPlan& attention_plan(const AttentionMemory& memory) {
  return *static_cast<const AttentionPlan*>(memory.data);
}

}  // namespace host

int64_t first_attended(const AttentionShape& shape, int64_t position) {
  return shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
}

// The longest sequence alone, cut for many lanes: all its partitions, and two a lane for where cuts
// fall. Steps with more need few cuts.
int64_t attention_memory_bytes(const AttentionShape& shape, int64_t max_rows,
                               int64_t max_positions) {
  constexpr int64_t kLanes = 64;
  const int64_t slices = shape.num_kv_heads * host::slices_per_kv_head(shape);
  const int64_t partitions = (max_positions + kPartitionTokens - 1) / kPartitionTokens;
  const int64_t states = (slices * partitions + 2 * kLanes) * host::slice_heads(shape);
  return host::Layout(max_rows).slots + states * state_bytes(kMaxStateElementBytes, shape.head_dim);
}

}  // namespace tidemill
