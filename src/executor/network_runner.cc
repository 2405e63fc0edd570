#include "executor/network_runner.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "base/check.h"

namespace tidemill {
namespace {

using Sampled = std::optional<SampledToken>;

std::string lost_weights(std::string_view whose) {
  return format(
      "the file of the {} cannot be read any more (I/O error): it was made shorter while it was in "
      "use, or its disk fails. Compile the checkpoint again, and start again.",
      whose);
}

std::optional<RowFailure> failure_of(const Sampled& sampled) {
  if (!sampled) return RowFailure::kOutOfMemory;
  if (!sampled->finite) return RowFailure::kNotFinite;
  return std::nullopt;
}

TokenChoice take_choice(Sampled& sampled) {
  return {.token = sampled->token, .logprob = sampled->logprob, .top = std::move(sampled->top)};
}

// A row's first choice is its token. Behind it stand drafts: each is accepted while it equals the
// choice before it, and brings the choice behind it along.
void accept(std::span<Sampled> choices, std::span<const TokenId> drafts, RowResult& result) {
  result.accepted.reserve(choices.size());
  for (size_t i = 0; i < choices.size(); ++i) {
    if (const auto failure = failure_of(choices[i])) {
      // Behind tokens that are right it is the next step's to fail.
      if (i == 0) result.failure = failure;
      return;
    }
    result.accepted.push_back(take_choice(choices[i]));
    if (i < drafts.size() && drafts[i] != result.accepted.back().token) return;
  }
}

// `sampled` are the row's, those of its prompt first.
void collect_row(const PlanRow& row, std::span<Sampled> sampled, std::span<const TokenId> drafts,
                 RowResult& result) {
  result.sequence = row.sequence;
  result.accepted.clear();
  result.failure.reset();
  result.prompt.clear();
  const auto num_prompt = static_cast<size_t>(row.num_prompt_rows);
  for (Sampled& score : sampled.first(num_prompt)) {
    result.failure = failure_of(score);
    if (result.failure) return;
    result.prompt.push_back(take_choice(score));
  }
  accept(sampled.subspan(num_prompt), drafts, result);
}

}  // namespace

NetworkRunner::NetworkRunner(const Kernels& kernels, WorkerPool& workers, const Model& model,
                             const DecoderLimits& limits, int64_t num_blocks, bool watches_cores,
                             std::unique_ptr<DraftNetwork> drafts)
    : kernels_(kernels),
      workers_(workers),
      model_(model),
      cache_(kernels, model.architecture(), model.compute_types().cache(), num_blocks),
      decoder_(kernels, model, cache_, communicator_, limits),
      drafts_(std::move(drafts)),
      scratch_(static_cast<size_t>(workers.num_threads())),
      clocks_(watches_cores ? static_cast<size_t>(workers.num_threads()) : 0),
      times_(clocks_.size()) {}

int32_t NetworkRunner::vocab_size() const {
  return static_cast<int32_t>(model_.architecture().vocab_size);
}

void NetworkRunner::compute(Lane& lane, const StepInput& input) {
  decoder_.forward(lane, input.forward);
  const Range rows = lane.share(static_cast<int64_t>(input.sampling.size()));
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const auto index = static_cast<size_t>(row);
    try {
      sampled_[index] =
          choose_token(kernels_, decoder_.logits_of(row), input.sampling[index],
                       scratch_[static_cast<size_t>(lane.worker())], input.changes(index));
    } catch (const std::bad_alloc&) {
      // Stays absent: the row fails, and a section must not throw.
    }
  }
}

void NetworkRunner::run_watched(const StepInput& input) {
  const double cpu_begin = process_cpu_seconds();
  times_.assign(clocks_.size(), {});  // of who sits out: nothing
  workers_.run_present([&](Lane& lane) {
    const auto worker = static_cast<size_t>(lane.worker());
    CoreClock& clock = clocks_[worker];
    const CoreTime begin = clock.read();
    compute(lane, input);
    lane.meet();  // who spins at the end of the section is no stranger
    const CoreTime end = clock.read();
    times_[worker] = {.ran = end.ran - begin.ran, .waited = end.waited - begin.waited};
  });
  delay_ = kept_from_core(times_, process_cpu_seconds() - cpu_begin);
}

void NetworkRunner::collect(const StepInput& input) {
  const auto& rows = input.plan.rows;
  result_.rows.resize(static_cast<size_t>(std::count_if(
      rows.begin(), rows.end(), [](const PlanRow& row) { return row.num_score_rows > 0; })));
  std::span<std::optional<SampledToken>> left = sampled_;
  size_t token = 0;  // of the row's first token in the step
  size_t next = 0;
  for (const PlanRow& row : rows) {
    const auto scores = static_cast<size_t>(row.num_score_rows);
    const auto tokens = static_cast<size_t>(row.num_tokens);
    if (scores > 0) {
      const auto choices = static_cast<size_t>(row.num_choice_rows());
      const size_t num_drafts = choices > 0 ? choices - 1 : 0;
      const auto drafts =
          std::span(input.forward.token_ids).subspan(token + tokens - num_drafts, num_drafts);
      collect_row(row, left.first(scores), drafts, result_.rows[next++]);
      left = left.subspan(scores);
    }
    token += tokens;
  }
}

StepResult& NetworkRunner::run(const StepInput& input) {
  sampled_.assign(input.sampling.size(), std::nullopt);
  if (clocks_.empty()) {
    workers_.run_present([&](Lane& lane) { compute(lane, input); });
  } else {
    run_watched(input);
  }
  if (model_.has_failed()) throw std::runtime_error(lost_weights("weights"));
  collect(input);
  return result_;
}

std::span<const TokenId> NetworkRunner::draft(const DraftInput& input) {
  if (drafts_ == nullptr) return StepRunner::draft(input);
  const std::span<const TokenId> drafts = drafts_->draft(input);
  if (drafts_->has_failed()) throw std::runtime_error(lost_weights("draft model's weights"));
  return drafts;
}

// Before a step no more than what lets prompts of a few steps find their memory: others wait.
bool NetworkRunner::prepare(int64_t used_blocks, Ahead ahead) {
  constexpr int64_t kMiB = int64_t{1} << 20;
  const int64_t bytes = ahead == Ahead::kSomeSteps ? 16 * kMiB : 512 * kMiB;
  if (cache_.touch_ahead(workers_, used_blocks, bytes)) return true;
  return drafts_ != nullptr && drafts_->prepare(used_blocks, bytes);
}

// The loop's thread is worker 0.
void NetworkRunner::enter_thread() { workers_.pin_caller(); }

}  // namespace tidemill
