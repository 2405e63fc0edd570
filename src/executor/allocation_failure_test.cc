// Memory that is not there: one allocation after the other fails, and each time it costs the
// request that asked for it, and no other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

#include "executor/build_input.h"
#include "executor/executor_fixture.h"
#include "executor/failing_new.h"
#include "executor/network_runner.h"
#include "executor/random_engine.h"
#include "executor/step_loop.h"
#include "kernels/select.h"
#include "scheduler/prefix_cache.h"

namespace tidemill {
namespace {

class AllocationFailure : public ExecutorTest {};

TEST_F(AllocationFailure, N_3_ASubmissionWithoutMemoryLeavesNothingBehind) {
  start({.rules = {rule("*", "ok")}});
  GenerationFields of = fields("some words");
  of.prompts.push_back(TokenPrompt{.ids = {1, 2, 3}});
  of.num_choices = 2;
  of.stop_strings = {"END"};
  const GenerationRequest asked = request(of);
  int num_failures = 0;
  for (bool failed = true; failed; num_failures += failed) {
    failed = false;
    std::optional<Result<ResponseStream>> stream;
    try {
      const FailingAllocation failing(num_failures);
      stream.emplace(executor_->submit(asked));
    } catch (const std::bad_alloc&) {
      failed = true;
    }
    if (!failed) {
      EXPECT_THAT(read(**stream).texts, testing::Each("ok"));
    }
    expect_quiet();
    ASSERT_FALSE(testing::Test::HasFailure()) << "allocation " << num_failures;
  }
  EXPECT_GT(num_failures, 20);
}

// In a new scope and behind a block that is known.
TEST(PrefixCacheWithoutMemory, N_3_RemembersABlockOrNothingOfIt) {
  const std::vector<TokenId> tokens(kBlockTokens, 7);
  for (const bool has_parent : {false, true}) {
    int num_failures = 0;
    for (bool failed = true; failed; num_failures += failed) {
      failed = false;
      BlockPool pool(4);
      PrefixCache cache;
      const auto insert = [&](PrefixCache::NodeId parent, PrefixCache::GroupBlocks blocks) {
        return cache.insert("a scope of its own", parent, tokens, std::move(blocks)).node;
      };
      const auto blocks = [&] {
        PrefixCache::GroupBlocks list;
        list.push_back(pool.take());
        return list;
      };
      const PrefixCache::NodeId parent =
          has_parent ? insert(PrefixCache::kRoot, blocks()) : PrefixCache::kRoot;
      PrefixCache::GroupBlocks more = blocks();
      try {
        const FailingAllocation failing(num_failures);
        insert(parent, std::move(more));
      } catch (const std::bad_alloc&) {
        failed = true;
      }
      cache.check({&pool});
      const int64_t known = has_parent + !failed;
      EXPECT_EQ(cache.num_nodes(), known) << "allocation " << num_failures;
      EXPECT_EQ(pool.num_free(), pool.num_blocks() - known) << "allocation " << num_failures;
    }
    EXPECT_GE(num_failures, 5);
  }
}

// Sequence 1 runs throughout, if it does not fail. In its first step three more come in, and from
// its end to that of the second one allocation of the loop fails, or several in a row; after some
// forty the loop is stopped.
class Starved : public StepRunner {
 public:
  explicit Starved(int64_t allocation, int64_t num_failures = 1)
      : allocation_(allocation), num_failures_(num_failures) {
    for (SequenceId id = 1; id <= 4; ++id) {
      streams.push_back(std::make_shared<StreamQueue>());
      table_.put(id, streams.back(), std::chrono::steady_clock::now());
      gauges.in_system.fetch_add(1);
    }
    mailbox_.push({mail(1, 60)});
    while (!gauges.failed.load() && num_steps_ < 40 && gauges.in_system.load() > 0) loop_.turn({});
    stop_failing();
    loop_.stop();
    loop_.run();
  }
  StepResult& run(const StepInput& input) override {
    StepResult& result = script_.run(input);
    if (++num_steps_ == 1) {
      std::vector<Mail> batch;
      for (SequenceId id = 2; id <= 4; ++id) batch.push_back(mail(id, 3));
      mailbox_.push(std::move(batch));
      failing_.emplace(allocation_, num_failures_);
    } else {
      stop_failing();
    }
    return result;
  }
  int32_t vocab_size() const override { return script_.vocab_size(); }

  bool came = true;  // unless the second step says otherwise
  std::vector<std::shared_ptr<StreamQueue>> streams;
  LoopGauges gauges;

 private:
  static Mail mail(SequenceId id, int32_t max_new_tokens) {
    const std::vector<TokenId> prompt(40, static_cast<TokenId>(id));
    return {.kind = MailKind::kAdd,
            .sequence = id,
            .prompt = prompt,
            .max_new_tokens = max_new_tokens,
            .end_ids = {kScriptEndId}};
  }
  void stop_failing() {
    if (!failing_) return;
    came = FailingAllocation::came();
    failing_.reset();
  }

  const int64_t allocation_;
  const int64_t num_failures_;
  std::optional<FailingAllocation> failing_;
  int num_steps_ = 0;
  MetricsRegistry registry_;
  ScriptRunner script_{{.num_blocks = 16, .rules = {rule("*", std::string(60, 'x'))}}};
  const ExecutorOptions options_{.scheduler = {.groups = {{.num_blocks = 16}}},
                                 .max_model_len = 128};
  ExecutorMetrics metrics_{registry_, "m", 128, {.num_blocks = 16, .prefix_cache = true}};
  Mailbox mailbox_;
  StreamTable table_;
  StepLoop loop_{*this, options_, metrics_, mailbox_, table_, gauges};
};

TEST_F(AllocationFailure, N_2_WhicheverAllocationOfTheLoopFailsEveryStreamHasItsEnding) {
  int num_alone = 0;  // times that one sequence failed and the others ended as they should
  bool came = true;
  for (int64_t number = 0; came; ++number) {
    const Starved starved(number);
    came = starved.came;
    int num_out_of_memory = 0, num_as_asked = 0;
    for (size_t i = 0; i < starved.streams.size(); ++i) {
      int num_endings = 0;
      const StreamQueue::Taken taken = starved.streams[i]->take();
      EXPECT_EQ(taken.error, nullptr) << "there was memory to say more";
      for (const TokenRecord& record : taken.records) {
        num_endings += record.end || record.error;
        num_as_asked += i > 0 && record.end;
        num_out_of_memory += record.error && record.error->kind == ErrorKind::kOutOfMemory;
      }
      ASSERT_EQ(num_endings, 1) << "stream " << i << ", allocation " << number;
    }
    ASSERT_EQ(starved.gauges.in_system.load(), 0);
    ASSERT_FALSE(starved.gauges.failed.load()) << "allocation " << number;
    ASSERT_LE(num_out_of_memory, 1) << "allocation " << number;
    num_alone += num_out_of_memory == 1 && num_as_asked >= 2;
  }
  EXPECT_GT(num_alone, 10);
}

// The one that tells it fails, too, or all that come for a while. Whoever is still to be answered
// then has an ending without memory for it: the rest of the mail as well.
TEST_F(AllocationFailure, N_3_WithoutMemoryToTellItEveryStreamHasItsEndingStill) {
  int num_wordless = 0;
  for (const int64_t num_failures : {2, 3, 5, 1'000'000}) {
    for (int64_t number = 0; number < 60; ++number) {
      const Starved starved(number, num_failures);
      for (size_t i = 0; i < starved.streams.size(); ++i) {
        int num_endings = 0;
        const StreamQueue::Taken taken = starved.streams[i]->take();
        for (const TokenRecord& record : taken.records) num_endings += record.end || record.error;
        num_wordless += taken.error != nullptr;
        ASSERT_EQ(num_endings + (taken.error != nullptr), 1)
            << "stream " << i << ", allocation " << number << ", " << num_failures << " fail";
      }
      ASSERT_EQ(starved.gauges.in_system.load(), 0);
    }
  }
  EXPECT_GT(num_wordless, 50);
}

TEST_F(AllocationFailure, N_3_AReaderIsCalledWithoutMemoryForACopyOfTheCall) {
  StreamQueue queue;
  int calls = 0;
  const std::string much(100, 'x');  // no std::function holds that without an allocation
  queue.on_ready([&calls, much] { ++calls; });
  const FailingAllocation failing(0, 1'000'000);
  queue.fail(std::shared_ptr<const Error>());
  EXPECT_EQ(calls, 1);
}

TEST_F(AllocationFailure, N_3_ARowThatFindsNoMemoryFailsAlone) {
  const RandomEngine engine(1);
  const Model model(engine.dir());
  WorkerPool workers({.num_threads = 1, .pin = false});
  NetworkRunner runner(
      select_kernels("reference"), workers, model,
      {.max_model_len = kRandomModelLen, .max_step_tokens = 64, .max_score_rows = 2}, 8);
  Scheduler scheduler({.groups = {{.num_blocks = 8}}});
  for (SequenceId id = 1; id <= 2; ++id) {
    scheduler.add({.id = id, .prompt = random_prompt(9, 0), .max_new_tokens = 5});
  }
  // The first draws from a nucleus and tells its alternatives, which takes lists; the second does
  // not.
  const SequenceSampling hungry{.params = {.temperature = 0.7f, .top_p = 0.5f, .num_logprobs = 3}};
  const SequenceSampling modest{.params = {.temperature = 0.0f}};
  StepInput input;
  build_input(
      scheduler.next_step(), scheduler,
      [&](SequenceId id) -> const SequenceSampling& { return id == 1 ? hungry : modest; }, input);
  const StepResult whole = runner.run(input);
  int num_alone = 0;
  for (int64_t number = 0; number < 100; ++number) {
    std::optional<StepResult> result;
    try {
      const FailingAllocation failing(number);
      result = runner.run(input);
    } catch (const std::bad_alloc&) {
      continue;  // not in the choice of a token
    }
    EXPECT_EQ(result->rows[1], whole.rows[1]);
    if (!result->rows[0].failure) {
      EXPECT_EQ(result->rows[0], whole.rows[0]);
      continue;
    }
    EXPECT_EQ(result->rows[0].failure, RowFailure::kOutOfMemory);
    EXPECT_TRUE(result->rows[0].accepted.empty());
    ++num_alone;
  }
  EXPECT_GE(num_alone, 3);
}

}  // namespace
}  // namespace tidemill
