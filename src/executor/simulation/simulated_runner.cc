#include "executor/simulation/simulated_runner.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/check.h"
#include "executor/byte_tokenizer.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/simulation/scheduler_simulation.h"

namespace tidemill {

TokenId chosen_behind(History history, uint64_t seed, int32_t choice,
                      std::span<const TokenId> forbidden) {
  const uint64_t draw = scramble(extend(history ^ scramble(seed), choice));
  TokenId token = draw % 32 == 0 ? kScriptEndId : static_cast<TokenId>('a' + (draw >> 8) % 5);
  while (std::find(forbidden.begin(), forbidden.end(), token) != forbidden.end()) {
    token = token >= 'a' && token < 'z' ? token + 1 : 'a';
  }
  return token;
}

SimulatedRunner::SimulatedRunner(const std::vector<KvGroupOptions>& groups,
                                 SimulatedRunnerOptions options, VirtualClock& clock, uint64_t seed)
    : groups_(groups), options_(options), clock_(clock), random_(seed) {
  for (const KvGroupOptions& group : groups) {
    slots_.emplace_back(static_cast<size_t>(group.num_blocks * kBlockTokens));
  }
}

int32_t SimulatedRunner::vocab_size() const { return kScriptVocabSize; }

SimulatedRunner::Slot& SimulatedRunner::slot(const ForwardInput& input, size_t group, size_t token,
                                             int32_t position) {
  const ForwardInput::Group& table = input.groups[group];
  const auto entry = static_cast<size_t>(table.table_begins[token] + position / kBlockTokens);
  const int32_t block = table.block_ids.at(entry);
  if (block < 0) throw SimulationFailure(format("position {} has no block", position));
  return slots_[group].at(static_cast<size_t>(block * kBlockTokens + position % kBlockTokens));
}

std::vector<History> SimulatedRunner::compute(const ForwardInput& input, const PlanRow& row,
                                              size_t first) {
  const int32_t begin = row.first_position;
  History before = history_of_scope("");
  for (size_t group = 0; group < groups_.size(); ++group) {
    const int64_t window = groups_[group].window;
    const auto seen =
        static_cast<int32_t>(window == 0 ? 0 : std::max<int64_t>(0, begin - window + 1));
    if (seen == 0) before = history_of_scope("");
    for (int32_t position = seen; position < begin; ++position) {
      const Slot& read = slot(input, group, first, position);
      const bool follows = extend(before, read.token) == read.history;
      // The first that a window shows has nothing before it to compare with.
      if (!follows && (position > seen || seen == 0)) {
        throw SimulationFailure(format("I5: sequence {} reads what is not its own at {} of {}",
                                       row.sequence, position, begin));
      }
      before = read.history;
    }
  }
  std::vector<History> histories;
  for (int32_t i = 0; i < row.num_tokens; ++i) {
    const size_t token = first + static_cast<size_t>(i);
    if (input.positions[token] != begin + i) throw SimulationFailure("a row is not in order");
    before = extend(before, input.token_ids[token]);
    histories.push_back(before);
    for (size_t group = 0; group < groups_.size(); ++group) {
      slot(input, group, token, begin + i) = {before, input.token_ids[token]};
    }
  }
  return histories;
}

RowResult SimulatedRunner::choose(const StepInput& input, const PlanRow& row,
                                  std::span<const History> histories, size_t first, size_t score) {
  RowResult result{.sequence = row.sequence};
  if (options_.failures > 0 && random_.one_in(options_.failures)) {
    result.failure = random_.one_in(2) ? RowFailure::kNotFinite : RowFailure::kOutOfMemory;
    failed[row.sequence] = *result.failure;
    return result;
  }
  const auto scores = static_cast<size_t>(row.num_score_rows);
  const size_t begin = histories.size() - scores;
  for (size_t i = 0; i < scores; ++i) {
    const SamplingRow& sampling = input.sampling[score + i];
    const TokenId token = chosen_behind(histories[begin + i], sampling.params.seed, sampling.choice,
                                        input.forbidden.of(score + i));
    result.accepted.push_back({.token = token, .logprob = -0.5f});
    if (i + 1 < scores && input.forward.token_ids[first + begin + i + 1] != token) break;
  }
  return result;
}

StepResult SimulatedRunner::run(const StepInput& input) {
  ++num_steps;
  try {
    return compute_step(input);
  } catch (const SimulationFailure& failure) {
    found = failure.what();
    throw;
  }
}

StepResult SimulatedRunner::compute_step(const StepInput& input) {
  StepResult result;
  size_t first = 0;
  size_t score = 0;
  for (const PlanRow& row : input.plan.rows) {
    if (on_row) on_row(row);
    const std::vector<History> histories = compute(input.forward, row, first);
    if (row.num_score_rows > 0) {
      result.rows.push_back(choose(input, row, histories, first, score));
    }
    first += static_cast<size_t>(row.num_tokens);
    score += static_cast<size_t>(row.num_score_rows);
  }
  clock_.advance(std::chrono::microseconds(random_.between(1, options_.step_us)));
  if (options_.throws_at_step == num_steps) throw std::runtime_error("the simulated model stops");
  return result;
}

}  // namespace tidemill
