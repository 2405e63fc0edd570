#include "model/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/select.h"
#include "model/kv_cache.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kMaxModelLen = 1000;  // 32 blocks, the last not full
constexpr int64_t kWeights = 10'000'000;

Architecture planned() {
  return {.family = "llama",
          .hidden_size = 64,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 16,
          .intermediate_size = 128,
          .vocab_size = 256,
          .max_positions = kMaxModelLen};
}

MemoryWishes wishes(int64_t kv_cache_bytes = 0) {
  return {.kv_cache_bytes = kv_cache_bytes,
          .max_sequences = 4,
          .limits = {.max_model_len = kMaxModelLen, .max_step_tokens = 64, .max_score_rows = 4}};
}

int64_t block_bytes() { return kv_bytes_per_block(planned(), DType::kBf16); }

// Memory that leaves `kv_bytes` after weights and workspace.
int64_t memory_for(int64_t kv_bytes) {
  return kWeights + Decoder::workspace_bytes(planned(), {}, wishes().limits) + kv_bytes;
}

MemoryPlan plan(int64_t kv_cache_bytes, int64_t available) {
  return plan_memory(planned(), {}, kWeights, wishes(kv_cache_bytes), available);
}

TEST(MemoryPlan, TakesNineTenthsOfWhatIsLeftAndNoMoreThanCanBeUsed) {
  EXPECT_EQ(plan(0, memory_for(100 * block_bytes())).num_blocks, 88);
  EXPECT_EQ(plan(0, memory_for(1'000'000 * block_bytes())).num_blocks, 4 * 32);
  EXPECT_EQ(plan(0, memory_for(100 * block_bytes())).refusal(), "");
}

// But for a scale of two bytes beside each head's numbers.
TEST(MemoryPlan, KeysAndValuesOfInt8TakeHalf) {
  const int64_t memory = memory_for(100 * block_bytes());
  const MemoryPlan bf16 = plan_memory(planned(), {}, kWeights, wishes(), memory);
  const MemoryPlan int8 = plan_memory(planned(), {.int8_cache = true}, kWeights, wishes(), memory);
  EXPECT_EQ(int8.bytes_per_block, bf16.bytes_per_block * (16 + 2) / (2 * 16));
  EXPECT_GT(int8.num_blocks, bf16.num_blocks);
  EXPECT_THAT(int8.table(), HasSubstr("int8"));
}

TEST(MemoryPlan, TakesWhatKvCacheBytesSaysToTheLastByteThatIsThere) {
  const int64_t bytes = 48 * block_bytes();
  EXPECT_EQ(plan(bytes, memory_for(bytes)).num_blocks, 48);
  EXPECT_EQ(plan(bytes, memory_for(bytes)).refusal(), "");
}

// What stands together is there together: no more is taken than was given.
TEST(MemoryPlan, CountsWholeBundles) {
  for (int64_t blocks = 1; blocks < 20; ++blocks) {
    const MemoryPlan part = plan(blocks * block_bytes(), memory_for(100 * block_bytes()));
    EXPECT_EQ(part.num_blocks, blocks / 8 * 8);
    EXPECT_EQ(part.kv_bytes(), part.num_blocks * block_bytes());
  }
  MemoryWishes one = wishes();
  one.limits.max_model_len = 40;
  one.max_sequences = 1;
  const MemoryPlan useful =
      plan_memory(planned(), {}, kWeights, one, memory_for(1000 * block_bytes()));
  EXPECT_EQ(useful.num_blocks, 2);
  EXPECT_EQ(useful.kv_bytes(), 8 * block_bytes());
  const KvCache cache(select_kernels("reference"), planned(), DType::kBf16, useful.num_blocks);
  const KvLayer first = cache.layer(0);
  EXPECT_EQ(static_cast<int64_t>(first.bundle_stride) * planned().num_layers, useful.kv_bytes());
}

TEST(MemoryPlan, X_5_KvCacheBytesBeyondWhatIsThereIsRefusedWithTheTable) {
  const int64_t bytes = 48 * block_bytes();
  const std::string refusal = plan(bytes, memory_for(bytes - 1)).refusal();
  EXPECT_THAT(refusal, HasSubstr("Lower kv_cache_bytes to " + std::to_string(bytes - 1)));
  EXPECT_THAT(refusal, HasSubstr("weights "));
  EXPECT_THAT(refusal, HasSubstr("workspace "));
  // Where lowering it would not help, that is not advised.
  EXPECT_THAT(plan(bytes, kWeights).refusal(), Not(HasSubstr("Lower")));
}

TEST(MemoryPlan, X_5_ASequenceThatDoesNotFitIsRefusedWithWhatWould) {
  const std::string refusal = plan(0, memory_for(20 * block_bytes())).refusal();
  EXPECT_THAT(refusal, HasSubstr("needs 32 KV blocks"));
  EXPECT_THAT(refusal, HasSubstr("as they come by 8"));
  EXPECT_THAT(refusal, HasSubstr("lower max_model_len to 512"));  // 16 blocks
}

// Wherever they would be enough, and nowhere else: with room for so many blocks of bf16.
TEST(MemoryPlan, X_5_Int8KeysAndValuesAreAdvisedWhereTheyWouldFit) {
  const std::string kAdvice = "set kv_cache_dtype=int8";
  int num_advised = 0;
  for (const int64_t kv_cache_bytes : {int64_t{0}, 18 * block_bytes()}) {
    for (int64_t room = 0; room < 50; ++room) {
      const int64_t memory = memory_for(room * block_bytes());
      const std::string bf16 = plan(kv_cache_bytes, memory).refusal();
      const std::string int8 =
          plan_memory(planned(), {.int8_cache = true}, kWeights, wishes(kv_cache_bytes), memory)
              .refusal();
      const bool advised = bf16.find(kAdvice) != std::string::npos;
      EXPECT_EQ(advised, !bf16.empty() && int8.empty()) << room << ": " << bf16 << int8;
      EXPECT_THAT(int8, Not(HasSubstr(kAdvice)));
      num_advised += advised;
    }
  }
  EXPECT_GT(num_advised, 20);
  EXPECT_THAT(plan(0, memory_for(25 * block_bytes())).refusal(),
              HasSubstr(kAdvice + ", or lower max_model_len to 512"));
}

TEST(MemoryPlan, X_5_WhereNotOneBlockFitsNoLengthIsAdvised) {
  for (const int64_t available : {memory_for(0), kWeights / 2}) {
    const std::string refusal = plan(0, available).refusal();
    EXPECT_THAT(refusal, HasSubstr("and 0 fit"));
    EXPECT_THAT(refusal, Not(HasSubstr("max_model_len to")));
    EXPECT_THAT(refusal, HasSubstr("more memory"));
  }
}

TEST(MemoryPlan, ASmallKvCacheBytesIsNamedAsTheCause) {
  const std::string refusal = plan(10 * block_bytes(), memory_for(100 * block_bytes())).refusal();
  EXPECT_THAT(refusal, HasSubstr("Raise kv_cache_bytes to " + std::to_string(32 * block_bytes())));
  EXPECT_THAT(refusal, HasSubstr("lower max_model_len to 256"));
  EXPECT_THAT(refusal, Not(HasSubstr("more memory")));
  EXPECT_THAT(plan(1, memory_for(100 * block_bytes())).refusal(),
              Not(HasSubstr("max_model_len to")));
}

}  // namespace
}  // namespace tidemill
