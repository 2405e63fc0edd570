#include "measure/step_rest.h"

#include <gmock/gmock.h>

#include "model/random_engine_dir.h"

namespace tidemill {
namespace {

constexpr Architecture kSmall{.hidden_size = 64,
                              .num_layers = 3,
                              .num_heads = 4,
                              .num_kv_heads = 2,
                              .head_dim = 16,
                              .intermediate_size = 128,
                              .vocab_size = 160,
                              .max_positions = 256,
                              .tied_head = true};
// Arithmetic takes longest in a step of kSmall.
constexpr Rates kRates{.bytes = 5e9, .operations = {.body = 1e9, .head = 2e9, .attention = 3e9}};

// A call of it takes so many microseconds, on a machine of such rates.
KernelLine line(const char* kernel, int64_t rows, double us, const Rates& rates) {
  const Round round{.work = {.tokens = static_cast<double>(rows)},
                    .seconds = us * 1e-6,
                    .before = rates,
                    .after = rates};
  return {.kernel = kernel, .rows = rows, .figures = figures_of({round})};
}

std::vector<KernelLine> lines(const Rates& rates = kRates) {
  const auto of = [&](const char* kernel, int64_t rows, double us) {
    return line(kernel, rows, us, rates);
  };
  return {of("section", 2, 10),          of("barrier", 2, 0.5),
          of("plan_attention", 1, 999),  of("plan_attention", 16, 20),
          of("embed", 16, 30),           of("rms_norm", 16, 1),
          of("rotate_and_store", 16, 2), of("quantize_attended", 16, 3),
          of("quantize", 16, 5),         of("final_norm", 16, 7),
          of("choose_greedy", 16, 40)};
}

TEST(StepRest, EveryPartCountsAsOftenAsItStandsInAStep) {
  const RandomEngineDir engine(kSmall, PackedFormat::kBf16, 1, 1.0f);
  const StepRest rest = rest_of_step(Model(engine.dir()), lines(), 16, 100);
  EXPECT_DOUBLE_EQ(rest.us(), 10 + 20 + 30 + 6 * 1 + 3 * 2 + 7 + 40);
  // Plan, embedding and two norms and a rotation for each layer, the last norm; five for each layer
  // and the head.
  EXPECT_EQ(rest.meetings, 1 + 1 + 3 * 3 + 1 + 5 * 3 + 1);
  EXPECT_DOUBLE_EQ(rest.meeting_us, 0.5);
}

TEST(StepRest, IntegersAreRoundedTwiceInALayer) {
  const RandomEngineDir engine(kSmall, PackedFormat::kInt8PerChannel, 1, 1.0f);
  const StepRest rest = rest_of_step(Model(engine.dir()), lines(), 16, 100);
  EXPECT_DOUBLE_EQ(rest.us(), 10 + 20 + 30 + 6 * 1 + 3 * 2 + 3 * (3 + 5) + 7 + 40);
  EXPECT_EQ(rest.meetings, 1 + 1 + 3 * 5 + 1 + 5 * 3 + 1);
}

// By rates that all differ: each part of the step must stand over its own.
TEST(StepRest, ItsShareIsOfTheWholeStepsLimit) {
  const RandomEngineDir engine(kSmall, PackedFormat::kBf16, 1, 1.0f);
  const Model model(engine.dir());
  constexpr double kUs = 10 + 20 + 30 + 6 * 1 + 3 * 2 + 7 + 40;
  constexpr double kLayerWeights = 128 * 64 + 64 * 64 + 256 * 64 + 64 * 128;
  constexpr double kBody = 16 * 2 * 3 * kLayerWeights;
  constexpr double kHead = 16 * 2 * 160 * 64;
  constexpr double kAttention = 16 * 100 * 4 * 4 * 16 * 3;
  constexpr double kArithmeticUs = kBody / 1e3 + kHead / 2e3 + kAttention / 3e3;
  const StepRest rest = rest_of_step(model, lines(), 16, 100);
  EXPECT_NEAR(rest.limit_us, kArithmeticUs, 1e-6 * kArithmeticUs);
  EXPECT_NEAR(rest.share(), kUs / kArithmeticUs, 1e-9);

  Rates slow_memory = kRates;
  slow_memory.bytes = 1e8;
  constexpr double kNorms = 4 * 64 * (2 * 3 + 1);
  constexpr double kKeysAndValues = 16 * 100 * 2 * 3 * 2 * 16 * 2;
  constexpr double kZeros = 3 * 4 * 64;  // behind the panels of `down`, which are whole pages
  constexpr double kMemoryUs =
      (2 * (3 * kLayerWeights + 160 * 64) + kZeros + kNorms + kKeysAndValues) / 1e2;
  static_assert(kMemoryUs > kArithmeticUs);
  const StepRest bound = rest_of_step(model, lines(slow_memory), 16, 100);
  EXPECT_NEAR(bound.share(), kUs / kMemoryUs, 1e-9);
}

}  // namespace
}  // namespace tidemill
