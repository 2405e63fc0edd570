// One row of a vocabulary of 50,000 on the fastest variant. Against the reference's std::sort, some
// 4 ms, which is longer than a decode step of a small model.
#include "sampling/sampler.h"

#include <benchmark/benchmark.h>

#include <random>

#include "kernels/select.h"
#include "kernels/test_logits.h"

namespace tidemill {
namespace {

// A few good tokens above a noise, as models give them; `spread` of 0 is noise alone.
std::vector<float> logits_of(float spread) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0.0f, 2.0f);
  std::vector<float> logits(50'000);
  for (float& logit : logits) logit = normal(random);
  for (int i = 0; i < 20; ++i) {
    logits[random() % logits.size()] = 10.0f + spread * static_cast<float>(i) / 20.0f;
  }
  return logits;
}

void choose(benchmark::State& state, const SamplingParams& params, float spread) {
  const Kernels& kernels = select_kernels("auto");
  const std::vector<float> logits = logits_of(spread);
  std::vector<TokenId> output(params.penalises_output() ? 1000 : 0);
  for (size_t i = 0; i < output.size(); ++i) output[i] = static_cast<TokenId>(i * 37);
  const test::OwnedLogits of_row(kernels, logits);
  SamplingRow row{.params = params};
  LogitScratch scratch;
  for (auto _ : state) {
    ++row.position;
    benchmark::DoNotOptimize(
        choose_token(kernels, of_row.view(), row, scratch, {.output = output}));
  }
  state.SetLabel(kernels.name);
}

BENCHMARK_CAPTURE(choose, greedy, {.temperature = 0.0f}, 6.0f);
BENCHMARK_CAPTURE(choose, greedy_5_logprobs, {.temperature = 0.0f, .num_logprobs = 5}, 6.0f);
BENCHMARK_CAPTURE(choose, temperature, {.temperature = 0.8f}, 6.0f);
BENCHMARK_CAPTURE(choose, top_k_50, {.temperature = 0.8f, .top_k = 50}, 6.0f);
BENCHMARK_CAPTURE(choose, top_p_090, {.temperature = 0.8f, .top_p = 0.9f}, 6.0f);
BENCHMARK_CAPTURE(choose, top_k_50_top_p_090, {.temperature = 0.8f, .top_k = 50, .top_p = 0.9f},
                  6.0f);
BENCHMARK_CAPTURE(choose, min_p_005, {.temperature = 0.8f, .min_p = 0.05f}, 6.0f);
BENCHMARK_CAPTURE(choose, typical_p_095, {.temperature = 0.8f, .typical_p = 0.95f}, 6.0f);
BENCHMARK_CAPTURE(choose, greedy_behind_1000_tokens,
                  {.temperature = 0.0f, .repetition_penalty = 1.1f}, 6.0f);
BENCHMARK_CAPTURE(choose, top_p_090_of_noise, {.temperature = 1.5f, .top_p = 0.9f}, 0.0f);

}  // namespace
}  // namespace tidemill
