// The network under the executor: a small random model, so that what a request gets depends on its
// prompt, its seed and nothing else.
#include "executor/network_runner.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "executor/build_input.h"
#include "executor/network_fixture.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

using Running = RunningNetwork;

TokenBits read(ResponseStream stream) { return read_choices(stream).at(0); }

class NetworkRunnerTest : public testing::TestWithParam<double> {
 protected:
  WorkerPool workers_{{.num_threads = 2, .pin = false}};
};

TEST_P(NetworkRunnerTest, Q_7_AnAnswerIsTheSameBitsAloneInACrowdAndAfterPreemption) {
  std::vector<TokenBits> alone;
  {
    Running roomy(1, workers_, 64, {.prefix_cache = false});
    for (int i = 0; i < 6; ++i)
      alone.push_back(read(roomy.submit(random_prompt(20 + 7 * i, i), GetParam())));
    EXPECT_EQ(roomy.preemptions(), 0);
    EXPECT_EQ(alone[0].size(), 40u);
    EXPECT_NE(alone[0], alone[1]);
  }
  Running tight(1, workers_, 9, {.max_step_tokens = 48, .min_chunk_tokens = 32});
  // In one request: they come together, however fast the loop is.
  GenerationFields all{
      .max_new_tokens = 40, .temperature = GetParam(), .seed = 17, .num_logprobs = 0};
  for (int i = 0; i < 6; ++i) {
    all.prompts.push_back(TokenPrompt{.ids = random_prompt(20 + 7 * i, i)});
  }
  ResponseStream stream = tight.submit(std::move(all));
  EXPECT_EQ(read_choices(stream), alone);
  tight.expect_at_least("vllm:num_preemptions_total", 1);
}

TEST_P(NetworkRunnerTest, Q_7_BehindAWindowItIsTheSameBitsInACrowdAndWithPrefixes) {
  constexpr int64_t kWindow = 40;
  std::vector<TokenBits> alone;
  {
    Running roomy(1, workers_, 64, {.window = kWindow, .prefix_cache = false});
    Running everything(1, workers_, 64, {.prefix_cache = false});
    for (int i = 0; i < 6; ++i) {
      alone.push_back(read(roomy.submit(random_prompt(60 + 7 * i, i), GetParam())));
      EXPECT_NE(read(everything.submit(random_prompt(60 + 7 * i, i), GetParam())), alone.back());
    }
  }
  for (const int64_t num_blocks : {9, 64}) {
    Running crowd(1, workers_, num_blocks,
                  {.max_step_tokens = 48, .min_chunk_tokens = 32, .window = kWindow});
    for (int round = 0; round < 2; ++round) {  // the second one finds prefixes, where there is room
      std::vector<ResponseStream> streams;
      for (int i = 0; i < 6; ++i)
        streams.push_back(crowd.submit(random_prompt(60 + 7 * i, i), GetParam()));
      for (size_t i = 0; i < streams.size(); ++i) EXPECT_EQ(read(std::move(streams[i])), alone[i]);
    }
    crowd.expect_quiet();
    const int64_t least_hits = num_blocks == 64 ? 6 * int64_t{kBlockTokens} : 0;
    crowd.expect_at_least("vllm:prefix_cache_hits_total", least_hits);
  }
}

TEST_P(NetworkRunnerTest, WhoWatchesCoresComputesTheSame) {
  Running running(1, workers_, 64, {});
  Running watching(1, workers_, 64, {}, /*watches_cores=*/true);
  const TokenBits answer = read(running.submit(random_prompt(50, 1), GetParam()));
  EXPECT_EQ(read(watching.submit(random_prompt(50, 1), GetParam())), answer);
}

TEST_P(NetworkRunnerTest, APrefixThatIsFoundChangesNothing) {
  Running running(1, workers_, 64, {});
  const TokenBits cold = read(running.submit(random_prompt(100, 1), GetParam()));
  ResponseStream warm = running.submit(random_prompt(100, 1), GetParam());
  while (warm.cached_tokens() == 0) std::this_thread::yield();
  EXPECT_EQ(warm.cached_tokens(), 96);
  EXPECT_EQ(read(std::move(warm)), cold);
}

TEST_P(NetworkRunnerTest, TwoModelsOnTheSameWorkersDoNotKnowOfEachOther) {
  std::vector<TokenBits> alone;
  for (const uint64_t model : {1, 2}) {
    Running running(model, workers_, 16, {});
    alone.push_back(read(running.submit(random_prompt(30, 0), GetParam())));
  }
  EXPECT_NE(alone[0], alone[1]);
  Running first(1, workers_, 16, {}), second(2, workers_, 16, {});
  ResponseStream of_first = first.submit(random_prompt(30, 0), GetParam());
  ResponseStream of_second = second.submit(random_prompt(30, 0), GetParam());
  EXPECT_EQ(read(std::move(of_first)), alone[0]);
  EXPECT_EQ(read(std::move(of_second)), alone[1]);
}

// Scheduler and network without the loop, which proposes nothing yet: two sequences, the first with
// drafts that are right three times in four of what it is known to answer.
struct Decoded {
  TokenBits answer;
  int num_steps = 0;
  int num_right = 0, num_wrong = 0;  // drafts
};

void propose(Scheduler& scheduler, const TokenBits& known, std::mt19937_64& random) {
  const Sequence* sequence = scheduler.find(1);
  if (sequence == nullptr || sequence->num_new_tokens() == 0) return;
  std::vector<TokenId> drafts;
  for (auto i = static_cast<size_t>(sequence->num_new_tokens());
       i < known.size() && drafts.size() < 5; ++i) {
    const bool right = random() % 4 != 0;
    drafts.push_back(right ? known[i].first : (known[i].first + 1) % kRandomVocabSize);
  }
  scheduler.propose(1, drafts);
}

Decoded decode(const Model& model, WorkerPool& workers, double temperature,
               const TokenBits& known) {
  const int64_t window = model.architecture().sliding_window;
  const SchedulerOptions options{.max_step_drafts = 8,
                                 .groups = {{.num_blocks = 16, .window = window}}};
  Scheduler scheduler(options);
  NetworkRunner runner(select_kernels("reference"), workers, model,
                       {.max_model_len = kRandomModelLen,
                        .max_step_tokens = options.max_step_tokens,
                        .max_score_rows = options.max_score_rows()},
                       16);
  const SequenceSampling sampling{
      .params = {.temperature = static_cast<float>(temperature), .seed = 17, .num_logprobs = 0}};
  for (SequenceId id = 1; id <= 2; ++id) {
    scheduler.add(
        {.id = id, .prompt = random_prompt(30, static_cast<int>(id)), .max_new_tokens = 60});
  }
  std::mt19937_64 random(3);
  StepInput input;
  Decoded decoded;
  while (scheduler.find(1) != nullptr) {
    propose(scheduler, known, random);
    const StepPlan plan = scheduler.next_step();
    build_input(
        plan, scheduler, [&](SequenceId) -> const SequenceSampling& { return sampling; }, input);
    const StepResult result = runner.run(input);
    scheduler.commit(result);
    ++decoded.num_steps;
    const RowResult& row = result.rows.at(0);
    for (const TokenChoice& choice : row.accepted) {
      decoded.answer.emplace_back(choice.token, choice.logprob);
    }
    const auto accepted = static_cast<int>(row.accepted.size());
    decoded.num_right += accepted - 1;
    decoded.num_wrong += plan.rows[0].num_score_rows - accepted;
  }
  return decoded;
}

void expect_same_with_drafts(const Model& model, WorkerPool& workers, double temperature) {
  const Decoded plain = decode(model, workers, temperature, {});
  ASSERT_EQ(plain.answer.size(), 60u);
  EXPECT_EQ(plain.num_steps, 60);
  const Decoded drafted = decode(model, workers, temperature, plain.answer);
  EXPECT_EQ(drafted.answer, plain.answer);
  EXPECT_LT(drafted.num_steps, 40);
  EXPECT_GT(drafted.num_right, 20);
  EXPECT_GT(drafted.num_wrong, 5);
}

TEST_P(NetworkRunnerTest, DraftsRightAndWrongLeadToTheSameBitsInFewerSteps) {
  const RandomEngine engine(1);
  expect_same_with_drafts(Model(engine.dir()), workers_, GetParam());
}

TEST_P(NetworkRunnerTest, SoTheyDoWithAnInt8Cache) {
  const RandomEngine engine(1);
  expect_same_with_drafts(Model(engine.dir(), {.int8_cache = true}), workers_, GetParam());
}

TEST_P(NetworkRunnerTest, SoTheyDoBehindAWindow) {
  const RandomEngine engine(1, /*window=*/40);
  expect_same_with_drafts(Model(engine.dir()), workers_, GetParam());
}

INSTANTIATE_TEST_SUITE_P(GreedyAndSeeded, NetworkRunnerTest, testing::Values(0.0, 0.9),
                         [](const auto& test) { return test.param == 0 ? "Greedy" : "Seeded"; });

}  // namespace
}  // namespace tidemill
