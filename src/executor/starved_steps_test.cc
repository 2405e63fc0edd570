// A step that finds no memory, whichever allocation of the loop it is: planning, building,
// computing and recording can be tried again, and neighbours say what they would have said.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <new>

#include "executor/executor_fixture.h"
#include "executor/failing_allocation.h"
#include "executor/step_loop.h"

namespace tidemill {
namespace {

// Seven sequences in a pool and a batch that are too small for them: prefixes that are shared,
// found and evicted, choices of one prompt, a prompt that is scored, preemption. All of it in one
// thread.
class StarvedSteps : public testing::Test {
 protected:
  static constexpr int64_t kNumSequences = 7;
  static constexpr int64_t kNumBlocks = 5;

  struct Said {
    std::vector<TokenId> tokens;
    std::vector<TokenId> scored;
    std::optional<ErrorKind> error;
    int num_endings = 0;
    bool operator==(const Said&) const = default;
  };
  struct Outcome {
    std::vector<Said> said;
    bool came = false;  // the failure
    bool failed = false;
    int64_t preemptions = 0;
    int64_t hit_tokens = 0;
    int64_t accepted_drafts = 0;

    int64_t num_out_of_memory() const {
      return std::count_if(said.begin(), said.end(),
                           [](const Said& of) { return of.error == ErrorKind::kOutOfMemory; });
    }
  };

  // Some turns in, one allocation fails, or several in a row.
  static Outcome run(int64_t first_turn, int64_t allocation, int64_t num_failures,
                     const std::string& speculative = "off") {
    StarvedSteps::Loop loop(speculative);
    for (SequenceId id = 1; id <= 5; ++id) loop.send(id);
    int64_t turn = 0;
    for (; turn < first_turn; ++turn) loop.turn();
    loop.send(6);
    loop.send(7);
    int64_t left = allocation;
    int64_t in_a_row = num_failures;
    for (; loop.gauges.in_system.load() > 0 && turn < 2000; ++turn) {
      {
        const FailingAllocation failing(left, in_a_row);
        loop.turn_only();
        left = FailingAllocation::left;
        in_a_row = FailingAllocation::in_a_row;
      }
      if (!loop.gauges.failed.load()) loop.step_loop.check_invariants();
    }
    loop.turn();  // publishes
    Outcome outcome = loop.outcome();
    outcome.came = left == FailingAllocation::kNone;
    return outcome;
  }
  static Outcome undisturbed(const std::string& speculative = "off") {
    return run(3, 1'000'000'000, 1, speculative);
  }
  // Each allocation fails once.
  static void expect_one_request_at_most(const std::string& speculative);

 private:
  struct Loop {
    void send(SequenceId id) {
      table.put(id, streams[static_cast<size_t>(id - 1)], std::chrono::steady_clock::now());
      gauges.in_system.fetch_add(1);
      mailbox.push({mail(id)});
    }
    void turn_only() { step_loop.turn({}); }
    void turn() {
      step_loop.turn({});
      step_loop.check_invariants();
    }
    static Mail mail(SequenceId id) {
      Mail of{.kind = MailKind::kAdd,
              .sequence = id,
              .prompt = std::vector<TokenId>(id == 4 ? 33 : 70, id == 5 ? 'b' : 'a'),
              .max_new_tokens = id == 3 ? 5 : 60,
              .end_ids = {kScriptEndId}};
      of.prompt.back() = static_cast<TokenId>('C' + (id == 2 ? 1 : id));
      if (id == 2) {
        of.same_prompt_as = 1;
        of.choice = 1;
      }
      if (id == 3) of.num_prompt_logprobs = 0;
      return of;
    }
    Outcome outcome() {
      Outcome outcome{.failed = gauges.failed.load()};
      for (const auto& stream : streams) {
        Said& said = outcome.said.emplace_back();
        const StreamQueue::Taken taken = stream->take();
        for (const TokenRecord& record : taken.records) {
          if (record.token) said.tokens.push_back(record.token->token);
          for (const TokenChoice& score : record.prompt) said.scored.push_back(score.token);
          if (record.error) said.error = record.error->kind;
          said.num_endings += record.end || record.error;
        }
        if (taken.error) said.error = taken.error->kind;
        said.num_endings += taken.error != nullptr;
      }
      const std::string page = registry.text();
      const auto count = [&](const std::string& name) {
        const size_t at = page.find("\n" + name + "{");
        return std::stoll(page.substr(page.find("} ", at) + 2));
      };
      outcome.preemptions = count("vllm:num_preemptions_total");
      outcome.hit_tokens = count("vllm:prefix_cache_hits_total");
      outcome.accepted_drafts = count("vllm:spec_decode_num_accepted_tokens_total");
      return outcome;
    }

    // Without drafts texts in which nothing comes twice.
    explicit Loop(std::string how) : speculative(std::move(how)) {
      for (int64_t i = 0; i < kNumSequences; ++i) {
        streams.push_back(std::make_shared<StreamQueue>());
      }
    }
    const std::string speculative;
    MetricsRegistry registry;
    ScriptRunner script{
        {.num_blocks = kNumBlocks,
         .rules = {rule("b", "0123456789"),
                   rule("*", speculative == "off" ? "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP"
                                                  : "abcdabcdabcdabcdabcdabcdabcdabcdabcdabcd")}}};
    const ExecutorOptions options{.scheduler = {.max_sequences = 3,
                                                .max_step_tokens = 96,
                                                .speculative = speculative,
                                                .max_preemptions = 2,
                                                .groups = {{.num_blocks = kNumBlocks}}},
                                  .max_model_len = 160};
    ExecutorMetrics metrics{registry, "m", 160, {.num_blocks = kNumBlocks, .prefix_cache = true}};
    Mailbox mailbox;
    StreamTable table;
    LoopGauges gauges;
    std::vector<std::shared_ptr<StreamQueue>> streams;
    StepLoop step_loop{script, options, metrics, mailbox, table, gauges};
  };
};

TEST_F(StarvedSteps, TheTrafficGoesWhereItShould) {
  const Outcome outcome = undisturbed();
  EXPECT_GT(outcome.preemptions, 0);
  EXPECT_GT(outcome.hit_tokens, 0);
  for (const Said& said : outcome.said) {
    EXPECT_FALSE(said.error);
    EXPECT_EQ(said.num_endings, 1);
  }
  EXPECT_EQ(outcome.said[2].scored.size(), 69u);
}

void StarvedSteps::expect_one_request_at_most(const std::string& speculative) {
  const Outcome whole = undisturbed(speculative);
  int64_t num_free = 0;  // failures that cost nobody anything
  int64_t number = 0;
  for (bool came = true; came; ++number) {
    const Outcome outcome = run(3, number, 1, speculative);
    came = outcome.came;
    ASSERT_FALSE(outcome.failed) << "allocation " << number;
    ASSERT_LE(outcome.num_out_of_memory(), 1) << "allocation " << number;
    num_free += outcome.num_out_of_memory() == 0;
    for (size_t i = 0; i < outcome.said.size(); ++i) {
      const Said& said = outcome.said[i];
      ASSERT_EQ(said.num_endings, 1) << "sequence " << i + 1 << ", allocation " << number;
      if (said.error) {
        ASSERT_EQ(said.error, ErrorKind::kOutOfMemory) << "allocation " << number;
        ASSERT_LE(said.tokens.size(), whole.said[i].tokens.size());
        ASSERT_TRUE(
            std::equal(said.tokens.begin(), said.tokens.end(), whole.said[i].tokens.begin()));
      } else {
        ASSERT_EQ(said, whole.said[i]) << "sequence " << i + 1 << ", allocation " << number;
      }
    }
  }
  EXPECT_GT(number, 500);
  EXPECT_GT(num_free, number / 2);
}

TEST_F(StarvedSteps, N_2_N_3_WhicheverAllocationFailsItCostsOneRequestAtMost) {
  expect_one_request_at_most("off");
}

TEST_F(StarvedSteps, N_2_N_3_WhicheverAllocationFailsDraftsCostNobodyMore) {
  EXPECT_GT(undisturbed("ngram").accepted_drafts, 60);
  expect_one_request_at_most("ngram");
}

// Each step that finds none costs the request that came last, and the model goes on.
TEST_F(StarvedSteps, N_3_WhileThereIsNoMemoryOneRequestAfterTheOtherEnds) {
  int64_t num_costly = 0;
  for (const int64_t num_failures : {2, 3, 4}) {
    for (int64_t number = 0; number < 400; ++number) {
      const Outcome outcome = run(3, number, num_failures);
      ASSERT_FALSE(outcome.failed) << "allocation " << number << ", " << num_failures << " fail";
      ASSERT_LE(outcome.num_out_of_memory(), num_failures) << "allocation " << number;
      for (const Said& said : outcome.said) ASSERT_EQ(said.num_endings, 1);
      num_costly += outcome.num_out_of_memory() > 0;
    }
  }
  EXPECT_GT(num_costly, 10);
}

// Every step in which somebody runs fails, for good.
class HungryRunner : public StepRunner {
 public:
  StepResult& run(const StepInput&) override {
    ++num_steps;
    throw std::bad_alloc();
  }
  int32_t vocab_size() const override { return kScriptVocabSize; }
  int num_steps = 0;
};

TEST(StarvedModel, N_3_HasFailedWhenNoStepFindsMemoryForLong) {
  for (const int64_t num_sequences : {3, 60}) {
    HungryRunner runner;
    MetricsRegistry registry;
    const ExecutorOptions options{.scheduler = {.groups = {{.num_blocks = 100}}},
                                  .max_model_len = 64};
    ExecutorMetrics metrics{registry, "m", 64, {.num_blocks = 100, .prefix_cache = true}};
    Mailbox mailbox;
    StreamTable table;
    LoopGauges gauges;
    StepLoop loop{runner, options, metrics, mailbox, table, gauges};
    std::vector<std::shared_ptr<StreamQueue>> streams;
    for (SequenceId id = 1; id <= num_sequences; ++id) {
      streams.push_back(std::make_shared<StreamQueue>());
      table.put(id, streams.back(), std::chrono::steady_clock::now());
      gauges.in_system.fetch_add(1);
      mailbox.push({{.kind = MailKind::kAdd, .sequence = id, .prompt = {1}, .max_new_tokens = 3}});
    }
    for (int i = 0; i < 100; ++i) loop.turn({});
    EXPECT_EQ(gauges.failed.load(), num_sequences == 60);
    EXPECT_EQ(runner.num_steps, num_sequences == 60 ? 32 : 4);
    EXPECT_EQ(gauges.in_system.load(), 0);
    for (size_t i = 0; i < streams.size(); ++i) {
      const StreamQueue::Taken taken = streams[i]->take();
      ASSERT_EQ(taken.records.size(), 1u);
      // The newest ones had to go first.
      const bool went = num_sequences == 3 || i >= 60u - 30u;
      EXPECT_EQ(taken.records[0].error->kind,
                went ? ErrorKind::kOutOfMemory : ErrorKind::kEngineError);
    }
  }
}

// A batch of mail without memory for anything, whose readers cannot be called either: each hears of
// its ending as soon as it can be called.
TEST(StarvedMail, N_3_WhoCouldNotBeCalledIsCalledLater) {
  for (const int64_t num_sequences : {1, 5, 200}) {
    ScriptRunner runner({.num_blocks = 8});
    MetricsRegistry registry;
    const ExecutorOptions options{.scheduler = {.groups = {{.num_blocks = 8}}},
                                  .max_model_len = 64};
    ExecutorMetrics metrics{registry, "m", 64, {.num_blocks = 8, .prefix_cache = true}};
    Mailbox mailbox;
    StreamTable table;
    LoopGauges gauges;
    StepLoop loop{runner, options, metrics, mailbox, table, gauges};
    std::vector<std::shared_ptr<StreamQueue>> streams;
    std::vector<int> heard(static_cast<size_t>(num_sequences));
    std::vector<Mail> mail;
    for (SequenceId id = 1; id <= num_sequences; ++id) {
      streams.push_back(std::make_shared<StreamQueue>());
      streams.back()->on_ready([&heard, id] {
        const std::vector<int> memory(1);
        heard[static_cast<size_t>(id - 1)] += memory[0] + 1;
      });
      table.put(id, streams.back(), std::chrono::steady_clock::now());
      gauges.in_system.fetch_add(1);
      mail.push_back({.kind = MailKind::kAdd, .sequence = id, .prompt = {1}, .max_new_tokens = 3});
    }
    mailbox.push(std::move(mail));
    {
      const FailingAllocation failing(0, 1'000'000);
      loop.turn({});
    }
    EXPECT_THAT(heard, testing::Each(0));
    loop.turn({});
    EXPECT_THAT(heard, testing::Each(1));
    for (const auto& stream : streams) {
      const StreamQueue::Taken taken = stream->take();
      ASSERT_TRUE(taken.error != nullptr);
      EXPECT_EQ(taken.error->kind, ErrorKind::kOutOfMemory);
      EXPECT_TRUE(taken.records.empty());
    }
    EXPECT_FALSE(gauges.failed.load());
    EXPECT_EQ(gauges.in_system.load(), 0);
  }
}

}  // namespace
}  // namespace tidemill
