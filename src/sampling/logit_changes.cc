#include "sampling/logit_changes.h"

#include <algorithm>

namespace tidemill {
namespace {

// Below every logit, and finite. What is not allowed lies deeper: where everything that is allowed
// is forbidden, one of those is chosen.
constexpr float kForbidden = -3.0e38f;
constexpr float kNotAllowed = -3.2e38f;
constexpr double kMostChanged = 1.0e38;  // a changed logit stays above what is forbidden
constexpr int32_t kNotSeen = -1;

float bounded(double logit) {
  return static_cast<float>(std::clamp(logit, -kMostChanged, kMostChanged));
}

class ChangedRow {
 public:
  ChangedRow(const Logits& logits, LogitScratch& scratch)
      : scratch_(scratch), logits_(scratch.row) {
    logits_.assign(logits.values, logits.values + logits.count);
  }

  void add(std::span<const TokenId> ids, std::span<const float> bias) {
    for (size_t i = 0; i < ids.size(); ++i) {
      if (has(ids[i])) at(ids[i]) = bounded(double{at(ids[i])} + bias[i]);
    }
  }

  void penalise(const SamplingParams& params, const LogitChanges& changes) {
    if (changes.prompt.empty() && changes.output.empty()) return;
    std::vector<int32_t>& counts = scratch_.counts;  // how often the output has an id
    if (counts.size() < logits_.size()) counts.resize(logits_.size(), kNotSeen);
    for (const TokenId id : changes.prompt) {
      if (has(id)) counts[static_cast<size_t>(id)] = 0;
    }
    for (const TokenId id : changes.output) {
      if (!has(id)) continue;
      int32_t& count = counts[static_cast<size_t>(id)];
      count = std::max(count, 0) + 1;
    }
    for (const std::span<const TokenId> ids : {changes.prompt, changes.output}) {
      for (const TokenId id : ids) {
        if (!has(id)) continue;
        int32_t& count = counts[static_cast<size_t>(id)];
        if (count != kNotSeen) at(id) = penalised(at(id), count, params);
        count = kNotSeen;  // once each
      }
    }
  }

  void forbid(std::span<const TokenId> ids) {
    for (const TokenId id : ids) {
      if (has(id)) at(id) = kForbidden;
    }
  }

  void allow(std::span<const TokenId> ids) {
    if (ids.empty()) return;
    std::vector<float>& only = scratch_.allowed;
    only.assign(logits_.size(), kNotAllowed);
    for (const TokenId id : ids) {
      if (has(id)) only[static_cast<size_t>(id)] = at(id);
    }
    logits_.swap(only);
  }

 private:
  static float penalised(double logit, int32_t count, const SamplingParams& params) {
    const double repetition = params.repetition_penalty;
    logit = logit > 0.0 ? logit / repetition : logit * repetition;
    if (count > 0) logit -= double{params.frequency_penalty} * count + params.presence_penalty;
    return bounded(logit);
  }
  bool has(TokenId id) const { return id >= 0 && static_cast<size_t>(id) < logits_.size(); }
  float& at(TokenId id) { return logits_[static_cast<size_t>(id)]; }

  LogitScratch& scratch_;
  std::vector<float>& logits_;
};

}  // namespace

Logits change_logits(const Kernels& kernels, const Logits& logits, const SamplingParams& params,
                     const LogitChanges& changes, LogitScratch& scratch) {
  ChangedRow row(logits, scratch);
  row.add(changes.bias_ids, changes.bias);
  row.penalise(params, changes);
  row.forbid(changes.forbidden);
  row.allow(changes.allowed);
  scratch.chunk_maxima.resize(static_cast<size_t>(num_logit_chunks(logits.count)));
  kernels.chunk_maxima(scratch.row.data(), logits.count, scratch.chunk_maxima.data());
  return {scratch.row.data(), logits.count, scratch.chunk_maxima.data()};
}

}  // namespace tidemill
