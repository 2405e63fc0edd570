#include "executor/simulation/simulated_runner.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

#include "base/check.h"
#include "executor/byte_tokenizer.h"
#include "scheduler/prefix_cache.h"
#include "scheduler/simulation/scheduler_simulation.h"

namespace tidemill {

namespace {

template <typename List>
uint64_t extend_by(uint64_t history, const List& list) {
  history = extend(history, static_cast<TokenId>(list.size()));
  for (const auto item : list) history = extend(history, static_cast<TokenId>(item * 8));
  return history;
}

constexpr int64_t kStepsToLearn = 50;

}  // namespace

StepLaw random_law(SimulationRandom& random, double limit, int32_t max_sequences) {
  const auto part = [&](int64_t least, int64_t most) {
    return limit / static_cast<double>(random.between(least, most));
  };
  StepLaw law{.costs = {.limit = limit}};
  law.costs.fixed = part(8, 100);
  law.costs.decode_token = part(4, 64) / max_sequences;
  law.costs.decode_key = part(16, 256) / (1000.0 * max_sequences);
  law.costs.prompt_token = part(50, 200);
  law.costs.prompt_key = law.costs.prompt_token / static_cast<double>(random.between(2000, 20'000));
  law.noise = random.one_of({0, 30, 100, 200});
  law.hiccups = random.one_of({0, 8, 100});
  law.hiccup = limit * random.one_of({0.3, 1.0, 10.0});
  return law;
}

TokenId chosen_behind(History history, const SamplingParams& params, int32_t choice,
                      const LogitChanges& changes) {
  uint64_t draw = extend(history ^ scramble(params.seed), choice);
  if (!changes.bias_ids.empty()) draw = extend_by(extend_by(draw, changes.bias_ids), changes.bias);
  if (!changes.prompt.empty()) draw = extend_by(draw, changes.prompt);
  if (!changes.output.empty()) draw = extend_by(draw, changes.output);
  draw = scramble(draw);
  const auto is_forbidden = [&](TokenId token) {
    return std::find(changes.forbidden.begin(), changes.forbidden.end(), token) !=
           changes.forbidden.end();
  };
  if (!changes.allowed.empty()) {
    size_t at = (draw >> 8) % changes.allowed.size();
    while (is_forbidden(changes.allowed[at])) at = (at + 1) % changes.allowed.size();
    return changes.allowed[at];
  }
  TokenId token = draw % 32 == 0 ? kScriptEndId : static_cast<TokenId>('a' + (draw >> 8) % 5);
  while (is_forbidden(token)) token = token >= 'a' && token < 'z' ? token + 1 : 'a';
  return token;
}

float logprob_behind(History history, TokenId token) {
  return -static_cast<float>(scramble(extend(history, token)) % 64) / 16.0f;
}

SimulatedRunner::SimulatedRunner(const std::vector<KvGroupOptions>& groups,
                                 SimulatedRunnerOptions options, VirtualClock& clock, uint64_t seed)
    : groups_(groups), options_(options), clock_(clock), random_(seed) {
  for (const KvGroupOptions& group : groups) {
    slots_.emplace_back(static_cast<size_t>(group.num_blocks * kBlockTokens));
  }
  draft_slots_ = slots_;
}

int32_t SimulatedRunner::vocab_size() const { return kScriptVocabSize; }

SimulatedRunner::Slot& SimulatedRunner::slot(const ForwardInput& input, size_t group, size_t token,
                                             int32_t position, Slots& slots) {
  const ForwardInput::Group& table = input.groups[group];
  const auto entry = static_cast<size_t>(table.table_begins[token] + position / kBlockTokens);
  const int32_t block = table.block_ids.at(entry);
  if (block < 0) throw SimulationFailure(format("position {} has no block", position));
  return slots[group].at(static_cast<size_t>(block * kBlockTokens + position % kBlockTokens));
}

std::vector<History> SimulatedRunner::compute(const ForwardInput& input, const PlanRow& row,
                                              size_t first) {
  const int32_t begin = row.first_position;
  const History start = history_of_scope(salt_of ? salt_of(row.sequence) : "");
  History before = start;
  for (size_t group = 0; group < groups_.size(); ++group) {
    const int64_t window = groups_[group].window;
    const auto seen =
        static_cast<int32_t>(window == 0 ? 0 : std::max<int64_t>(0, begin - window + 1));
    if (seen == 0) before = start;
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

void SimulatedRunner::score_prompt(const StepInput& input, const PlanRow& row,
                                   std::span<const History> histories, size_t first, size_t score,
                                   RowResult& result) const {
  const size_t begin = histories.size() - static_cast<size_t>(row.num_score_rows);
  for (size_t i = 0; i < static_cast<size_t>(row.num_prompt_rows); ++i) {
    const SamplingRow& sampling = input.sampling[score + i];
    const bool is_inside = begin + i + 1 < histories.size();
    if (sampling.scored == kNoToken ||
        (is_inside && input.forward.token_ids[first + begin + i + 1] != sampling.scored)) {
      throw SimulationFailure(
          format("sequence {} scores {}, which is not what comes", row.sequence, sampling.scored));
    }
    TokenChoice& of = result.prompt.emplace_back();
    of.token = sampling.scored;
    of.logprob = logprob_behind(histories[begin + i], of.token);
    for (int32_t best = 0; best < sampling.params.num_logprobs; ++best) {
      of.top.emplace_back('a' + best, of.logprob - static_cast<float>(best));
    }
  }
}

RowResult SimulatedRunner::choose(const StepInput& input, const PlanRow& row,
                                  std::span<const History> histories, size_t first, size_t score) {
  RowResult result{.sequence = row.sequence};
  if (options_.failures > 0 && random_.one_in(options_.failures)) {
    result.failure = random_.one_in(2) ? RowFailure::kNotFinite : RowFailure::kOutOfMemory;
    failed[row.sequence] = *result.failure;
    return result;
  }
  score_prompt(input, row, histories, first, score, result);
  score += static_cast<size_t>(row.num_prompt_rows);
  const auto scores = static_cast<size_t>(row.num_choice_rows());
  const size_t begin = histories.size() - scores;
  for (size_t i = 0; i < scores; ++i) {
    const SamplingRow& sampling = input.sampling[score + i];
    const TokenId last = input.forward.token_ids[first + begin + i];
    const History history = options_.repeats_itself ? history_of_round(histories[begin + i], last)
                                                    : histories[begin + i];
    const TokenId token =
        chosen_behind(history, sampling.params, sampling.choice, input.changes(score + i));
    // Where nobody asked for it, there is none.
    const bool is_told = sampling.params.num_logprobs >= 0;
    result.accepted.push_back(
        {.token = token, .logprob = is_told ? logprob_behind(histories[begin + i], token) : 0.0f});
    num_drafts += i > 0;
    if (i + 1 < scores && input.forward.token_ids[first + begin + i + 1] != token) break;
  }
  return result;
}

void SimulatedRunner::draft_row(const DraftInput& input, size_t index) {
  const DraftInput::Row& row = input.rows[index];
  const ForwardInput& forward = input.forward;
  const auto first = static_cast<size_t>(row.first_token);
  const size_t end = index + 1 < input.rows.size()
                         ? static_cast<size_t>(input.rows[index + 1].first_token)
                         : forward.token_ids.size();
  const auto at = [&](int32_t position) -> Slot& {
    return slot(forward, 0, first, position, draft_slots_);
  };
  History history = history_of_scope(salt_of ? salt_of(row.sequence) : "");
  for (int32_t position = 0; position < forward.positions[first]; ++position) {
    const Slot& read = at(position);
    history = extend(history, read.token);
    if (history == read.history) continue;
    throw SimulationFailure(
        format("I5: the draft model of sequence {} reads what is not its own "
               "at {} of {}",
               row.sequence, position, forward.positions[first]));
  }
  for (size_t token = first; token < end; ++token) {
    history = extend(history, forward.token_ids[token]);
    const int32_t position = forward.positions[token];
    at(position) = {history, forward.token_ids[token]};
    // As the kernels do: behind what a block begins with nothing stands any more.
    if (position % kBlockTokens > 0) continue;
    for (int32_t behind = 1; behind < kBlockTokens; ++behind) at(position + behind) = {};
  }
  TokenId last = forward.token_ids[end - 1];
  for (int32_t i = 0; i < row.num_drafts; ++i) {
    const History before = options_.repeats_itself ? history_of_round(history, last) : history;
    last = chosen_behind(before, row.sampling.params, row.sampling.choice, input.changes(index));
    if (history % 8 == 0) last = 'z';
    drafts_.push_back(last);
    if (i + 1 == row.num_drafts) break;
    history = extend(history, last);
    at(row.sampling.position + i) = {history, last};
  }
}

std::span<const TokenId> SimulatedRunner::draft(const DraftInput& input) {
  drafts_.clear();
  try {
    for (size_t row = 0; row < input.rows.size(); ++row) draft_row(input, row);
  } catch (const SimulationFailure& failure) {
    found = failure.what();
    throw;
  }
  return drafts_;
}

StepResult& SimulatedRunner::run(const StepInput& input) {
  ++num_steps;
  try {
    result_ = compute_step(input);
    return result_;
  } catch (const SimulationFailure& failure) {
    found = failure.what();
    throw;
  }
}

void SimulatedRunner::take_time(const StepPlan& plan) {
  if (!options_.law) {
    clock_.advance(std::chrono::microseconds(random_.between(1, options_.step_us)));
    return;
  }
  const StepLaw& law = *options_.law;
  const StepWork work = plan.work();
  // The sum of three: nearly as noise is, and the same on every machine.
  const int64_t noise = random_.between(-law.noise, law.noise) +
                        random_.between(-law.noise, law.noise) +
                        random_.between(-law.noise, law.noise);
  const double alone = cost_of(work, law.costs) * (1.0 + static_cast<double>(noise) / 3000.0);
  delay_ = law.hiccups > 0 && random_.one_in(law.hiccups)
               ? law.hiccup * static_cast<double>(random_.between(1, 100)) * 1e-2
               : 0.0;
  if (delay_ == 0.0 && num_steps > kStepsToLearn) judge(work, alone);
  clock_.advance(std::chrono::microseconds(static_cast<int64_t>((alone + delay_) * 1e6) + 1));
}

void SimulatedRunner::judge(const StepWork& work, double seconds) {
  const StepCosts& costs = options_.law->costs;
  if (work.prompt_tokens == 0.0) return;
  StepWork least = work;
  if (work.prompt_tokens > kBlockTokens) {
    least.prompt_keys *= kBlockTokens / work.prompt_tokens;
    least.prompt_tokens = kBlockTokens;
  }
  if (cost_of(least, costs) > 0.8 * costs.limit) return;
  ++judged.all;
  judged.over += seconds > 1.15 * costs.limit;
  judged.used += seconds > 0.75 * costs.limit;
}

StepResult SimulatedRunner::compute_step(const StepInput& input) {
  StepResult result;
  size_t first = 0;
  size_t score = 0;
  for (const PlanRow& row : input.plan.rows) {
    if (on_row) on_row(row);
  }
  for (const PlanRow& row : input.plan.rows) {
    const std::vector<History> histories = compute(input.forward, row, first);
    if (row.num_score_rows > 0) {
      result.rows.push_back(choose(input, row, histories, first, score));
    }
    first += static_cast<size_t>(row.num_tokens);
    score += static_cast<size_t>(row.num_score_rows);
  }
  take_time(input.plan);
  if (options_.throws_at_step == num_steps) throw std::runtime_error("the simulated model stops");
  return result;
}

}  // namespace tidemill
