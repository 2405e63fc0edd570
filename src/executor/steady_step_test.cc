// What a step that goes on as the one before takes of memory: nothing.
#include <gtest/gtest.h>

#include <random>
#include <utility>
#include <vector>

#include "executor/build_input.h"
#include "executor/failing_allocation.h"
#include "executor/network_runner.h"
#include "executor/random_engine.h"
#include "kernels/select.h"
#include "kernels/test_logits.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

int64_t allocations() { return FailingAllocation::num_asked; }

// Allocations of this thread since the last call.
int64_t allocations_since(int64_t& last) {
  const int64_t before = std::exchange(last, allocations());
  return last - before;
}

const std::vector<SequenceSampling> kSampling = {
    {.params = {.temperature = 0.0f}},
    {.params = {.temperature = 0.8f}},
    {.params = {.temperature = 0.8f, .top_k = 20, .top_p = 0.9f}},
    {.params = {.temperature = 0.8f, .min_p = 0.05f}},
};

class SteadyStep : public testing::Test {
 protected:
  static constexpr int kPromptTokens = 40;
  static constexpr int kNewTokens = 150;

  SteadyStep() {
    workers_.run([](Lane&) {});
  }

  void add_all(SequenceId first) {
    for (size_t i = 0; i < kSampling.size(); ++i) {
      scheduler_.add({.id = first + static_cast<SequenceId>(i),
                      .prompt = random_prompt(kPromptTokens, static_cast<int>(first + 7 * i)),
                      .max_new_tokens = kNewTokens});
    }
  }

  // Of the worker that is not this thread.
  int64_t allocations_of_worker() {
    int64_t count = -1;
    workers_.run([&](Lane& lane) {
      if (lane.worker() == 1) count = allocations();
    });
    return count;
  }

  struct Taken {
    int64_t by_scheduler = 0;
    int64_t by_input = 0;
    int64_t by_run = 0;
    int64_t by_worker = 0;
  };
  Taken step() {
    Taken taken;
    const int64_t worker_before = allocations_of_worker();
    int64_t last = allocations();
    const StepPlan& plan = scheduler_.next_step();
    taken.by_scheduler = allocations_since(last);
    build_input(
        plan, scheduler_,
        [](SequenceId id) -> const SequenceSampling& {
          return kSampling[static_cast<size_t>(id) % kSampling.size()];
        },
        input_);
    taken.by_input = allocations_since(last);
    const StepResult& result = runner_.run(input_);
    taken.by_run = allocations_since(last);
    scheduler_.commit(result);
    taken.by_scheduler += allocations_since(last);
    taken.by_worker = allocations_of_worker() - worker_before;
    return taken;
  }

  RandomEngine engine_{1};
  Model model_{engine_.dir()};
  WorkerPool workers_{{.num_threads = 2, .pin = false}};
  NetworkRunner runner_{
      select_kernels("auto"),
      workers_,
      model_,
      {.max_model_len = kRandomModelLen, .max_step_tokens = 256, .max_score_rows = 32},
      64};
  Scheduler scheduler_{
      {.max_step_tokens = 256, .speculative = "off", .groups = {{.num_blocks = 64}}}};
  StepInput input_;
};

// But for the prefix cache, where a block is full, and for what a sequence's tokens grow by.
TEST_F(SteadyStep, TakesNoMemory) {
  add_all(0);
  while (scheduler_.find(0) != nullptr) step();
  add_all(4);
  step();
  for (int i = 1; i + 1 < kNewTokens; ++i) {
    const Taken taken = step();
    EXPECT_EQ(taken.by_input, 0) << i;
    EXPECT_EQ(taken.by_worker, 0) << i;
    EXPECT_EQ(taken.by_run, 0) << i;
    const bool fills_a_block = (kPromptTokens + i) % kBlockTokens <= 1;
    EXPECT_LE(taken.by_scheduler, fills_a_block ? 100 : 0) << i;
  }
}

// Vocabularies as they are; the distributions are peaked, as those of a model are.
TEST_F(SteadyStep, ATokenIsChosenWithoutMemory) {
  std::mt19937_64 random(3);
  std::normal_distribution<float> normal;
  LogitScratch scratch;
  const Kernels& kernels = select_kernels("auto");
  for (const int64_t vocab_size : {32000, 49152, 151936}) {
    std::vector<float> logits(static_cast<size_t>(vocab_size));
    for (float& logit : logits) logit = normal(random);
    for (int i = 0; i < 20; ++i)
      logits[random() % logits.size()] = 10.0f + 0.3f * static_cast<float>(i);
    const test::OwnedLogits row(kernels, logits);
    for (const SequenceSampling& sampling : kSampling) {
      for (int32_t position = 0; position < 20; ++position) {
        const int64_t before = allocations();
        choose_token(kernels, row.view(), {.params = sampling.params, .position = position},
                     scratch);
        EXPECT_EQ(allocations(), before)
            << vocab_size << ", " << sampling.params.top_k << ", " << sampling.params.min_p;
      }
    }
  }
}

}  // namespace
}  // namespace tidemill
