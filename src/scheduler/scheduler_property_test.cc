// Random traffic over a memory that remembers what was written where. After robustness 6.3: one
// seed decides everything, the invariants are audited at every step, and a quiet phase lets
// everything end within a bound that is computed, not guessed.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "scheduler/prefix_cache.h"
#include "scheduler/scheduler.h"
#include "scheduler/sequence.h"

namespace tidemill {
namespace {

// Stands for the keys and values of a position: a function of all tokens up to it.
uint64_t extend(uint64_t state, TokenId token) {
  state = (state ^ static_cast<uint64_t>(token + 1)) * 0x9e3779b97f4a7c15u;
  return state ^ (state >> 29);
}

// Few different tokens, so that chance prefixes and ends are common.
TokenId next_token(uint64_t state) { return static_cast<TokenId>(state % 5); }

// The KV cache: per group and slot, what was written there.
class Memory {
 public:
  explicit Memory(const SchedulerOptions& options) : options_(options) {
    for (const KvGroupOptions& group : options.groups) {
      slots_.emplace_back(static_cast<size_t>(group.num_blocks * kBlockTokens), 0);
    }
  }

  // Computes a row as a model would: reads what its positions may see, writes its own, gives the
  // choice behind each scored position. False when what it read is not its own prefix.
  bool compute(const PlanRow& row, const Sequence& sequence, std::vector<TokenId>& choices) {
    std::vector<TokenId> tokens = sequence.tokens;
    tokens.insert(tokens.end(), sequence.drafts.begin(), sequence.drafts.end());
    const int32_t end = row.first_position + row.num_tokens;
    uint64_t state = 0;
    for (int32_t position = 0; position < end; ++position) {
      state = extend(state, tokens[static_cast<size_t>(position)]);
      for (size_t group = 0; group < slots_.size(); ++group) {
        const BlockTable& table = sequence.block_tables[group];
        if (position >= row.first_position) {
          slot(group, table, position) = state;
        } else if (sees(group, row.first_position, position) &&
                   slot(group, table, position) != state) {
          return false;
        }
      }
      if (position >= end - row.num_score_rows) choices.push_back(next_token(state));
    }
    return true;
  }

  void damage(int32_t block) { slots_[0][static_cast<size_t>(block * kBlockTokens)] ^= 1; }

 private:
  bool sees(size_t group, int32_t from, int32_t position) const {
    const int64_t window = options_.groups[group].window;
    return window == 0 || position > from - window;
  }
  uint64_t& slot(size_t group, const BlockTable& table, int32_t position) {
    const BlockRef& block = table.at(static_cast<size_t>(position / kBlockTokens));
    return slots_[group].at(
        static_cast<size_t>(block.id() * kBlockTokens + position % kBlockTokens));
  }

  const SchedulerOptions& options_;
  std::vector<std::vector<uint64_t>> slots_;
};

// What a request must answer, computed alone.
std::vector<TokenId> answer_alone(const NewSequence& request) {
  std::vector<TokenId> tokens = request.prompt;
  uint64_t state = 0;
  for (const TokenId token : tokens) state = extend(state, token);
  for (int32_t i = 0; i < request.max_new_tokens; ++i) {
    const TokenId token = next_token(state);
    tokens.push_back(token);
    state = extend(state, token);
    const auto& ends = request.end_ids;
    if (i >= request.min_new_tokens && std::find(ends.begin(), ends.end(), token) != ends.end()) {
      break;
    }
  }
  return tokens;
}

struct Traffic {
  explicit Traffic(uint64_t seed);

  int32_t up_to(int64_t most) {
    return static_cast<int32_t>(random() % static_cast<uint64_t>(most + 1));
  }
  void add();
  void cancel();
  void pause_or_resume();
  void propose();
  bool step();  // false when nothing could run
  void settle(const StepPlan& plan, const StepResult& result);
  void event();
  void finish();

  std::mt19937_64 random;
  SchedulerOptions options;
  bool protect;  // preempted sequences become protected soon
  Scheduler scheduler;
  Memory memory;
  SequenceId next_id = 1;
  struct Client {
    NewSequence request;
    std::vector<TokenId> tokens;
    std::set<PauseReason> reasons;
    bool paused() const { return !reasons.empty(); }
  };
  std::map<SequenceId, Client> alive;  // in order of arrival
  int64_t num_events = 0;
  int64_t num_answers = 0;
  int64_t num_dropped = 0;  // accepted behind an end
};

SchedulerOptions random_options(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto blocks = static_cast<int64_t>(1 + random() % (seed % 2 == 0 ? 8 : 40));
  SchedulerOptions options{.groups = {{.num_blocks = blocks}}};
  const auto window = [&] { return static_cast<int64_t>(1 + random() % 80); };
  if (seed % 5 == 1) options.groups.push_back({.num_blocks = blocks, .window = window()});
  if (seed % 5 == 2) options.groups = {{.num_blocks = blocks, .window = window()}};
  options.max_sequences = static_cast<int32_t>(seed % 7 == 0 ? 1 : 1 + random() % 8);
  options.max_step_tokens = static_cast<int32_t>(1 + random() % 160);
  options.max_step_drafts = static_cast<int32_t>(seed % 4 == 1 ? random() % 8 : 48);
  options.max_preemptions = static_cast<int32_t>(seed % 3 == 0 ? 1000000 : random() % 4);
  options.prefix_cache = seed % 4 != 0;
  return options;
}

Traffic::Traffic(uint64_t seed)
    : random(seed),
      options(random_options(seed)),
      protect(options.max_preemptions < 1000),
      scheduler(options),
      memory(options) {}

void Traffic::add() {
  constexpr int32_t kLengths[] = {1, 31, 32, 33, 63, 64, 65, 100};
  NewSequence request{.id = next_id,
                      .prompt = std::vector<TokenId>(static_cast<size_t>(kLengths[up_to(7)]),
                                                     static_cast<TokenId>(up_to(1))),
                      .max_new_tokens = 1 + up_to(60),
                      .min_new_tokens = up_to(3),
                      .prefix_scope = up_to(3) == 0 ? "other" : ""};
  if (up_to(2) == 0) request.prompt.back() = static_cast<TokenId>(up_to(4));
  if (up_to(1) == 0) request.end_ids = {static_cast<TokenId>(up_to(4))};
  // Followers of a prompt may wait for a paused leader; without protection nobody waits for one.
  if (protect && !alive.empty() && up_to(3) == 0) {
    const NewSequence& leader = alive.rbegin()->second.request;
    request.prompt = leader.prompt;
    request.prefix_scope = leader.prefix_scope;
    request.same_prompt_as = leader.id;
  }
  const auto length = static_cast<int64_t>(request.prompt.size()) + request.max_new_tokens;
  if (!scheduler.fits(length)) return;
  ++next_id;
  alive[request.id] = {.request = request, .tokens = request.prompt};
  scheduler.add(std::move(request));
}

void Traffic::cancel() {
  if (alive.empty()) return;
  const auto victim = std::next(alive.begin(), up_to(static_cast<int64_t>(alive.size()) - 1));
  scheduler.cancel(victim->first);
  alive.erase(victim);
}

void Traffic::pause_or_resume() {
  if (alive.empty()) return;
  auto& [id, client] = *std::next(alive.begin(), up_to(static_cast<int64_t>(alive.size()) - 1));
  const auto reason = up_to(3) == 0 ? PauseReason::kAdapter : PauseReason::kSlowReader;
  const bool pause = client.reasons.insert(reason).second;
  if (!pause) client.reasons.erase(reason);
  pause ? scheduler.pause(id, reason) : scheduler.resume(id, reason);
}

// Drafts of which the first few are right.
void Traffic::propose() {
  for (auto& [id, client] : alive) {
    const std::vector<TokenId> whole = answer_alone(client.request);
    std::vector<TokenId> drafts;
    for (size_t i = client.tokens.size(); i < whole.size() && drafts.size() < 6; ++i) {
      drafts.push_back(up_to(4) == 0 ? static_cast<TokenId>(up_to(4)) : whole[i]);
    }
    scheduler.propose(id, drafts);
  }
}

bool Traffic::step() {
  // I12: the oldest that runs is never the victim.
  const auto holds_blocks = [&](const auto& entry) {
    return !entry.second.paused() && !scheduler.find(entry.first)->block_tables[0].empty();
  };
  const auto oldest = std::find_if(alive.begin(), alive.end(), holds_blocks);
  const int32_t preemptions =
      oldest == alive.end() ? 0 : scheduler.find(oldest->first)->num_preemptions;
  const StepPlan plan = scheduler.next_step();
  scheduler.check_invariants();
  if (oldest != alive.end()) {
    EXPECT_EQ(scheduler.find(oldest->first)->num_preemptions, preemptions);
  }
  if (plan.empty()) return false;
  StepResult result;
  for (const PlanRow& row : plan.rows) {
    const Sequence& sequence = *scheduler.find(row.sequence);
    std::vector<TokenId> choices;
    EXPECT_TRUE(memory.compute(row, sequence, choices)) << "sequence " << row.sequence;
    if (choices.empty()) continue;
    RowResult of_row{.sequence = row.sequence};
    for (size_t i = 0; i < choices.size(); ++i) {
      of_row.accepted.push_back({.token = choices[i]});
      if (i < sequence.drafts.size() && choices[i] != sequence.drafts[i]) break;
    }
    if (up_to(300) == 0) of_row.failure = RowFailure::kNotFinite;
    result.rows.push_back(std::move(of_row));
  }
  if (up_to(20) == 0) cancel();  // while the step runs
  settle(plan, result);
  return true;
}

void Traffic::settle(const StepPlan& plan, const StepResult& result) {
  num_events += static_cast<int64_t>(plan.rows.size());
  const Recorded recorded = scheduler.commit(result);
  scheduler.check_invariants();
  ASSERT_EQ(recorded.num_tokens.size(), result.rows.size());
  for (size_t i = 0; i < result.rows.size(); ++i) {
    const RowResult& row = result.rows[i];
    const auto client = alive.find(row.sequence);
    const int32_t taken = recorded.num_tokens[i];
    ASSERT_EQ(taken == 0, client == alive.end() || row.failure);
    num_dropped += row.failure ? 0 : static_cast<int64_t>(row.accepted.size()) - taken;
    for (int32_t t = 0; t < taken; ++t) {
      client->second.tokens.push_back(row.accepted[static_cast<size_t>(t)].token);
    }
  }
  for (const SequenceEnd& end : recorded.ends) {
    ASSERT_EQ(scheduler.find(end.id), nullptr);
    const Client& client = alive.at(end.id);
    if (end.reason != EndReason::kFailed) {
      const std::vector<TokenId> expected = answer_alone(client.request);
      ASSERT_EQ(client.tokens, expected);
      ++num_answers;
    }
    alive.erase(end.id);
  }
  for (const auto& [id, client] : alive) ASSERT_EQ(scheduler.find(id)->tokens, client.tokens);
}

void Traffic::event() {
  ++num_events;
  const int32_t kind = up_to(9);
  if (kind < 3) return add();
  if (kind == 3) return cancel();
  if (kind == 4) return pause_or_resume();
  if (kind == 5) return propose();
  const bool may_all_run = std::none_of(alive.begin(), alive.end(),
                                        [](const auto& entry) { return entry.second.paused(); });
  const bool may_one_run = std::any_of(alive.begin(), alive.end(),
                                       [](const auto& entry) { return !entry.second.paused(); });
  // I10. Protected sequences are waited for, even paused; nobody else is.
  if (!step()) {
    ASSERT_FALSE(protect ? may_all_run && !alive.empty() : may_one_run) << "nothing advances";
  }
}

// I11: every step advances somebody by a token at least, and a sequence computes its tokens once,
// and once more for each preemption that it can suffer.
void Traffic::finish() {
  int64_t bound = 0;
  for (auto& [id, client] : alive) {
    for (const PauseReason reason : client.reasons) scheduler.resume(id, reason);
    client.reasons.clear();
    const auto length =
        static_cast<int64_t>(client.request.prompt.size()) + client.request.max_new_tokens;
    // Without protection only the newer give way to the older: once per token of each older one.
    bound += length * (protect ? options.max_preemptions + 1 : 1000);
  }
  for (; !alive.empty(); --bound) {
    ASSERT_GT(bound, 0) << alive.size() << " have not ended";
    ASSERT_TRUE(step()) << "nothing can run and " << alive.size() << " wait";
    ASSERT_FALSE(testing::Test::HasFailure());
  }
  ASSERT_EQ(scheduler.counts().held_blocks, 0);
  ASSERT_TRUE(scheduler.next_step().empty());
}

TEST(SchedulerTraffic, EveryRowReadsItsOwnPrefixAndEverythingEnds) {
  int64_t num_events = 0;
  int64_t num_answers = 0;
  int64_t num_dropped = 0;
  int64_t num_preemptions = 0;
  int64_t num_hits = 0;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    Traffic traffic(seed);
    for (int i = 0; i < 200; ++i) {
      traffic.event();
      ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    }
    traffic.finish();
    ASSERT_FALSE(testing::Test::HasFailure()) << "seed " << seed;
    num_events += traffic.num_events;
    num_answers += traffic.num_answers;
    num_dropped += traffic.num_dropped;
    num_preemptions += traffic.scheduler.counts().preemptions;
    num_hits += traffic.scheduler.counts().prefix_hit_tokens;
  }
  // The traffic goes where it should.
  EXPECT_GT(num_events, 2'000'000);
  EXPECT_GT(num_answers, 20000);
  EXPECT_GT(num_dropped, 1000);
  EXPECT_GT(num_preemptions, 1000);
  EXPECT_GT(num_hits, 100000);
}

TEST(SchedulerTraffic, AWrongBlockWouldBeNoticed) {
  const SchedulerOptions options{.groups = {{.num_blocks = 4}}};
  Scheduler scheduler(options);
  Memory memory(options);
  scheduler.add({.id = 1, .prompt = {1, 2, 3}, .max_new_tokens = 9});
  StepPlan plan = scheduler.next_step();
  std::vector<TokenId> choices;
  ASSERT_TRUE(memory.compute(plan.rows[0], *scheduler.find(1), choices));
  scheduler.commit({.rows = {{.sequence = 1, .accepted = {{.token = choices[0]}}}}});
  memory.damage(scheduler.find(1)->block_tables[0][0].id());
  plan = scheduler.next_step();
  EXPECT_FALSE(memory.compute(plan.rows[0], *scheduler.find(1), choices));
}

}  // namespace
}  // namespace tidemill
