#include "measure/step_rest.h"

#include <gmock/gmock.h>

#include "measure/step_work.h"
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
constexpr double kRate = 1e9;

// A call of it takes so many microseconds, on a machine that does kRate of everything.
KernelLine line(const char* kernel, int64_t rows, double us) {
  const Rates rates{.bytes = kRate, .operations = {kRate, kRate, kRate}};
  const Round round{.work = {.tokens = static_cast<double>(rows)},
                    .seconds = us * 1e-6,
                    .before = rates,
                    .after = rates};
  return {.kernel = kernel, .rows = rows, .figures = figures_of({round})};
}

std::vector<KernelLine> lines() {
  return {line("section", 2, 10),          line("barrier", 2, 0.5),
          line("plan_attention", 1, 999),  line("plan_attention", 16, 20),
          line("embed", 16, 30),           line("rms_norm", 16, 1),
          line("rotate_and_store", 16, 2), line("quantize_attended", 16, 3),
          line("quantize", 16, 5),         line("final_norm", 16, 7),
          line("choose_greedy", 16, 40)};
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

TEST(StepRest, ItsShareIsOfTheWholeStepsLimit) {
  const RandomEngineDir engine(kSmall, PackedFormat::kBf16, 1, 1.0f);
  const Model model(engine.dir());
  const StepRest rest = rest_of_step(model, lines(), 16, 100);
  const Work work = decode_work(cost_of(model.manifest(), model.compute_types()), 16, 100, 1);
  const Rates rates{.bytes = kRate, .operations = {kRate, kRate, kRate}};
  EXPECT_NEAR(rest.limit_us, limit_of(work, rates).seconds() * 1e6, 1e-6 * rest.limit_us);
  EXPECT_DOUBLE_EQ(rest.share(), rest.us() / rest.limit_us);
}

}  // namespace
}  // namespace tidemill
