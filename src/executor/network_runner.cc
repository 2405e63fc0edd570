#include "executor/network_runner.h"

#include <new>
#include <utility>

namespace tidemill {
namespace {

// A row's first choice is its token. Behind it stand drafts: each is accepted while it equals the
// choice before it, and brings the choice behind it along.
RowResult accept(const PlanRow& row, std::span<std::optional<SampledToken>> choices,
                 std::span<const TokenId> drafts) {
  RowResult result{.sequence = row.sequence};
  for (size_t i = 0; i < choices.size(); ++i) {
    std::optional<SampledToken>& choice = choices[i];
    if (!choice || !choice->finite) {
      // Behind tokens that are right it is the next step's to fail.
      if (i == 0) result.failure = choice ? RowFailure::kNotFinite : RowFailure::kOutOfMemory;
      return result;
    }
    result.accepted.push_back(
        {.token = choice->token, .logprob = choice->logprob, .top = std::move(choice->top)});
    if (i < drafts.size() && drafts[i] != choice->token) break;
  }
  return result;
}

}  // namespace

NetworkRunner::NetworkRunner(const Kernels& kernels, WorkerPool& workers, const Model& model,
                             const DecoderLimits& limits, int64_t num_blocks)
    : kernels_(kernels),
      workers_(workers),
      model_(model),
      cache_(kernels, model.architecture(), model.activation_type(), num_blocks),
      decoder_(kernels, model, cache_, communicator_, limits) {}

int32_t NetworkRunner::vocab_size() const {
  return static_cast<int32_t>(model_.architecture().vocab_size);
}

StepResult NetworkRunner::run(const StepInput& input) {
  const auto score_rows = static_cast<int64_t>(input.sampling.size());
  sampled_.assign(input.sampling.size(), std::nullopt);
  workers_.run([&](Lane& lane) {
    decoder_.forward(lane, input.forward);
    const Tensor logits = decoder_.logits();
    const Range rows = lane.share(score_rows);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const auto* values = static_cast<const float*>(logits.data) + row * logits.stride;
      const auto index = static_cast<size_t>(row);
      try {
        sampled_[index] = choose_token(kernels_, values, logits.cols, input.sampling[index],
                                       input.changes(index));
      } catch (const std::bad_alloc&) {
        // Stays absent: the row fails, and a section must not throw.
      }
    }
  });
  StepResult result;
  std::span<std::optional<SampledToken>> left = sampled_;
  size_t token = 0;  // of the row's first token in the step
  for (const PlanRow& row : input.plan.rows) {
    const auto scores = static_cast<size_t>(row.num_score_rows);
    const auto tokens = static_cast<size_t>(row.num_tokens);
    if (scores > 0) {
      const auto drafts =
          std::span(input.forward.token_ids).subspan(token + tokens - scores + 1, scores - 1);
      result.rows.push_back(accept(row, left.first(scores), drafts));
      left = left.subspan(scores);
    }
    token += tokens;
  }
  return result;
}

// The loop's thread is worker 0.
void NetworkRunner::enter_thread() { workers_.pin_caller(); }

}  // namespace tidemill
