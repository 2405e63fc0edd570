// Memory that nobody holds is full of NaN: whoever reads a slot before it was written, or a block
// after it was given back, says something else.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <set>

#include "executor/build_input.h"
#include "executor/random_engine.h"
#include "kernels/select.h"
#include "model/decoder.h"
#include "parallel/worker_pool.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

enum class Poison { kNone, kNewAndFree, kHeld };

// The bits of every row of logits that a sequence was given; its tokens are the best of them.
using Logits = std::map<SequenceId, std::vector<std::vector<float>>>;

// Greedy answers of six sequences in a pool that is too small for them; one leaves in between.
class PoisonedModel {
 public:
  PoisonedModel(const Kernels& kernels, bool prefix_cache, Poison poison, int64_t window = 0)
      : poison_(poison),
        prefix_cache_(prefix_cache),
        engine_(3, window),
        scheduler_({.max_step_tokens = kStepTokens,
                    .min_chunk_tokens = 32,
                    .prefix_cache = prefix_cache,
                    .groups = {{.num_blocks = kBlocks, .window = window}}}),
        cache_(kernels, model_.architecture(), model_.compute_types().cache(), kBlocks),
        decoder_(kernels, model_, cache_, communicator_,
                 {.max_model_len = kRandomModelLen,
                  .max_step_tokens = kStepTokens,
                  .max_score_rows = 32}) {
    for (int i = 0; i < kSequences; ++i) {
      scheduler_.add(
          {.id = i + 1, .prompt = random_prompt(20 + 17 * i, i % 3), .max_new_tokens = 40});
    }
  }

  Logits run() {
    int num_steps = 0;
    for (StepPlan plan = scheduler_.next_step(); !plan.empty(); plan = scheduler_.next_step()) {
      poison(plan);
      scheduler_.commit(compute(plan));
      if (++num_steps == 30) scheduler_.cancel(2);
    }
    return std::move(logits_);
  }
  int64_t preemptions() const { return scheduler_.counts().preemptions; }
  // Entries of tables whose block the window has passed, over all steps.
  int64_t num_passed() const { return num_passed_; }

 private:
  static constexpr int kSequences = 6;
  static constexpr int64_t kBlocks = 9;
  static constexpr int32_t kStepTokens = 48;

  void fill(int32_t block) {
    for (int64_t l = 0; l < model_.architecture().num_layers; ++l) {
      const KvLayer layer = cache_.layer(l);
      // All ones are a NaN in every floating type that a cache may have.
      for (int64_t head = 0; head < model_.architecture().num_kv_heads; ++head) {
        std::memset(kv_block(layer, block, head), 0xff, layer.block_stride);
      }
    }
  }

  void poison(const StepPlan& plan) {
    if (poison_ == Poison::kNone) return;
    std::set<int32_t> held;
    for (SequenceId id = 1; id <= kSequences; ++id) {
      const Sequence* sequence = scheduler_.find(id);
      if (sequence == nullptr) continue;
      for (const BlockRef& block : sequence->block_tables[0]) held.insert(block.id());
    }
    // With a prefix cache, a block in no table may hold what the next sequence shares.
    for (int32_t block = 0; block < kBlocks && !prefix_cache_; ++block) {
      if (!held.contains(block)) fill(block);
    }
    for (const PlanRow& row : plan.rows) {
      const BlockTable& table = scheduler_.find(row.sequence)->block_tables[0];
      for (size_t i = 0; i < table.size(); ++i) {
        const bool is_new = static_cast<int32_t>(i) * kBlockTokens >= row.first_position;
        num_passed_ += !table[i];
        if (!table[i]) continue;
        if (is_new || poison_ == Poison::kHeld) fill(table[i].id());
      }
    }
  }

  StepResult compute(const StepPlan& plan) {
    const SequenceSampling sampling;
    StepInput input;
    build_input(
        plan, scheduler_, [&](SequenceId) -> const SequenceSampling& { return sampling; }, input);
    workers_.run([&](Lane& lane) { decoder_.forward(lane, input.forward); });
    const Tensor logits = decoder_.logits();
    const auto* values = static_cast<const float*>(logits.data);
    StepResult result;
    for (const PlanRow& row : plan.rows) {
      if (row.num_score_rows == 0) continue;
      std::vector<float> of_row(values, values + logits.cols);
      values += logits.stride;
      const auto best = std::max_element(of_row.begin(), of_row.end());
      const auto token = static_cast<TokenId>(best - of_row.begin());
      result.rows.push_back({.sequence = row.sequence, .accepted = {{.token = token}}});
      logits_[row.sequence].push_back(std::move(of_row));
    }
    return result;
  }

  const Poison poison_;
  const bool prefix_cache_;
  RandomEngine engine_;
  Model model_{engine_.dir()};
  WorkerPool workers_{{.num_threads = 1, .pin = false}};
  Communicator communicator_;
  Scheduler scheduler_;
  KvCache cache_;
  Decoder decoder_;
  Logits logits_;
  int64_t num_passed_ = 0;
};

TEST(FreedBlocks, I_3_NoOutputChangesWhenFreedBlocksAreFilledWithNaN) {
  for (const Kernels* kernels : runnable_variants()) {
    for (const bool prefix_cache : {false, true}) {
      PoisonedModel clean(*kernels, prefix_cache, Poison::kNone);
      PoisonedModel poisoned(*kernels, prefix_cache, Poison::kNewAndFree);
      const Logits expected = clean.run();
      EXPECT_GT(clean.preemptions(), 0);
      ASSERT_EQ(expected.size(), 6u);
      EXPECT_EQ(expected.at(1).size(), 40u);
      EXPECT_EQ(poisoned.run(), expected) << kernels->name;
    }
  }
}

TEST(FreedBlocks, I_3_NorWhenThoseBehindAWindowAre) {
  for (const Kernels* kernels : runnable_variants()) {
    for (const bool prefix_cache : {false, true}) {
      PoisonedModel clean(*kernels, prefix_cache, Poison::kNone, 40);
      PoisonedModel poisoned(*kernels, prefix_cache, Poison::kNewAndFree, 40);
      EXPECT_EQ(poisoned.run(), clean.run()) << kernels->name;
      EXPECT_GT(poisoned.num_passed(), 100);
    }
  }
}

// The negative control: where it is read, it is seen.
TEST(FreedBlocks, NaNInABlockThatIsHeldIsSeen) {
  for (const Kernels* kernels : runnable_variants()) {
    const Logits logits = PoisonedModel(*kernels, false, Poison::kHeld).run();
    EXPECT_TRUE(std::isnan(logits.at(1).back().front())) << kernels->name;
  }
}

}  // namespace
}  // namespace tidemill
