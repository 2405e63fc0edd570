#include "measure/step_work.h"

#include <gtest/gtest.h>

namespace tidemill {
namespace {

Manifest manifest_of(bool tied_head, PackedFormat format = PackedFormat::kBf16) {
  Manifest manifest;
  manifest.format = format;
  manifest.architecture = {.hidden_size = 64,
                           .num_layers = 2,
                           .num_heads = 4,
                           .num_kv_heads = 2,
                           .head_dim = 16,
                           .intermediate_size = 128,
                           .vocab_size = 160,
                           .max_positions = 4096,
                           .tied_head = tied_head};
  manifest.tensors = engine_tensors(manifest.architecture, format);
  return manifest;
}

constexpr double kBodyWeights = 2 * (64 * 128 + 64 * 64 + 2 * 64 * 128 + 64 * 128);
constexpr double kHeadWeights = 160 * 64;

ModelCost cost_with(const Manifest& manifest, const ModelOptions& options = {}) {
  return cost_of(manifest, compute_types(manifest.tensors, options));
}

TEST(StepWork, CountsEveryWeightOnceAndTheEmbeddingOnlyWhereItIsTheHead) {
  for (const bool tied : {false, true}) {
    const ModelCost cost = cost_with(manifest_of(tied));
    EXPECT_DOUBLE_EQ(cost.body_operations, 2 * kBodyWeights);
    EXPECT_DOUBLE_EQ(cost.head_operations, 2 * kHeadWeights);
    const double norms = 4.0 * 64 * (2 * 2 + 1);
    const double zeros = 2 * 4 * 64;  // behind the panels of `down`, which are whole pages
    EXPECT_DOUBLE_EQ(cost.weight_bytes, 2 * (kBodyWeights + kHeadWeights) + zeros + norms);
  }
}

TEST(StepWork, AnInputOfTwoRunsIsMultipliedTwice) {
  const Manifest manifest = manifest_of(true, PackedFormat::kInt8PerChannel);
  const ModelCost bytes = cost_with(manifest);
  EXPECT_DOUBLE_EQ(bytes.body_operations, 2 * kBodyWeights);
  EXPECT_DOUBLE_EQ(bytes.head_operations, 2 * 2 * kHeadWeights) << "its input keeps 16 bits";
  const ModelCost words = cost_with(manifest, {.activation_bits = 16});
  EXPECT_DOUBLE_EQ(words.body_operations, 2 * 2 * kBodyWeights);
  EXPECT_DOUBLE_EQ(words.head_operations, 2 * 2 * kHeadWeights);
  // What is read does not change.
  EXPECT_DOUBLE_EQ(words.weight_bytes, bytes.weight_bytes);
}

TEST(StepWork, BytesOfGroupsHoldTheirScales) {
  const Manifest manifest = manifest_of(true, {Numbers::kInt4, Offsets::kZero, 64});
  const double norms = 4.0 * 64 * (2 * 2 + 1);
  // A group of 64 of 16 channels: 512 bytes of nibbles, 64 of scales and zero points. The head is
  // int8 with a line of scales for each panel.
  EXPECT_DOUBLE_EQ(
      cost_with(manifest).weight_bytes,
      kBodyWeights * (512 + 64) / 1024.0 + kHeadWeights * (1024 + 64) / 1024.0 + norms);
}

TEST(StepWork, KeysAndValuesOfAPositionAreThoseOfAllLayers) {
  EXPECT_DOUBLE_EQ(cost_with(manifest_of(true)).kv_bytes, 2 * 2 * 2 * 16 * 2);
  EXPECT_DOUBLE_EQ(cost_with(manifest_of(true, PackedFormat::kF32)).kv_bytes, 2 * 2 * 2 * 16 * 4);
  // Of int8 a byte a number, and two for the scale of a head.
  EXPECT_DOUBLE_EQ(cost_with(manifest_of(true), {.int8_cache = true}).kv_bytes,
                   2 * 2 * 2 * (16 + 2));
  EXPECT_DOUBLE_EQ(cost_with(manifest_of(true)).attention_operations, 4 * 4 * 16 * 2);
}

// Queries and probabilities are integers of 16 bits then.
TEST(StepWork, Int8KeysAndValuesAreMultipliedWithTwoBytes) {
  EXPECT_DOUBLE_EQ(cost_with(manifest_of(true), {.int8_cache = true}).attention_operations,
                   2 * 4 * 4 * 16 * 2);
}

constexpr ModelCost kCost{.weight_bytes = 1000.0,
                          .body_operations = 500.0,
                          .head_operations = 90.0,
                          .attention_operations = 8.0,
                          .kv_bytes = 3.0};

TEST(StepWork, DecodeReadsWeightsOnceAndEverySequencesContext) {
  const Work work = decode_work(kCost, 16, 100, 5);
  EXPECT_DOUBLE_EQ(work.tokens, 80);
  EXPECT_DOUBLE_EQ(work.bytes, 5 * (1000.0 + 16 * 100 * 3.0));
  EXPECT_DOUBLE_EQ(work.operations.body, 5 * 16 * 500.0);
  EXPECT_DOUBLE_EQ(work.operations.head, 5 * 16 * 90.0);
  EXPECT_DOUBLE_EQ(work.operations.attention, 5 * 16 * 100 * 8.0);
}

TEST(StepWork, PrefillReadsWeightsInEachChunkAndWhatEarlierOnesStored) {
  const Work work = prefill_work(kCost, 2, 10, 4);
  EXPECT_DOUBLE_EQ(work.tokens, 20);
  EXPECT_DOUBLE_EQ(work.bytes, 5 * 1000.0 + 2 * (4 + 8) * 3.0);
  EXPECT_DOUBLE_EQ(work.operations.body, 20 * 500.0);
  EXPECT_DOUBLE_EQ(work.operations.head, 2 * 90.0);
  EXPECT_DOUBLE_EQ(work.operations.attention, 2 * 55 * 8.0);
}

TEST(StepWork, AWindowBoundsWhatAQuerySees) {
  ModelCost cost = kCost;
  cost.window = 4;
  EXPECT_DOUBLE_EQ(decode_work(cost, 1, 100, 1).bytes, 1000.0 + 4 * 3.0);
  EXPECT_DOUBLE_EQ(prefill_work(cost, 1, 6, 8).operations.attention, (1 + 2 + 3 + 4 + 4 + 4) * 8.0);
}

}  // namespace
}  // namespace tidemill
