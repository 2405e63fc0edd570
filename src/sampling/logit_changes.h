// What a request changes of a row of logits before a token is chosen from them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "base/token_id.h"
#include "kernels/kernels.h"
#include "sampling/sampling_params.h"

namespace tidemill {

// Lists of one score row, beside its SamplingRow; flat, they travel in StepInput. Ids that the row
// does not have are passed over.
struct LogitChanges {
  std::span<const TokenId> allowed;    // nothing else is chosen; empty: every id may be
  std::span<const TokenId> forbidden;  // not chosen while anything else may be
  std::span<const TokenId> bias_ids;
  std::span<const float> bias;      // what is added, one for each of bias_ids
  std::span<const TokenId> prompt;  // for the repetition penalty
  std::span<const TokenId> output;  // so far, for every penalty

  bool empty() const {
    return allowed.empty() && forbidden.empty() && bias_ids.empty() && prompt.empty() &&
           output.empty();
  }
};

// What rows are changed in and chosen from, one for each thread. Kept from row to row: memory for a
// vocabulary comes from the system, page by page, each time that it is asked for.
struct LogitScratch {
  std::vector<float> row;
  std::vector<float> chunk_maxima;
  std::vector<float> allowed;
  std::vector<int32_t> counts;  // of each id -1, but while penalties are at work
  // Short lists of one row. Where they are long, as those of a flat distribution are, the system is
  // asked for more, until the row is done.
  static constexpr size_t kListBytes = 64 * 1024;
  std::vector<std::byte> list_bytes = std::vector<std::byte>(kListBytes);
  std::pmr::monotonic_buffer_resource lists{list_bytes.data(), list_bytes.size()};
};

// A row with its changes, which lies in `scratch`. In order: bias, then for every id of prompt or
// output the repetition penalty (logit / r if positive, else logit * r) and for every id of the
// output its frequency and presence (- f * count - p), then what is forbidden and what is not
// allowed, as finite numbers below all others: the row stays finite, and such an id is chosen only
// where there is no better.
Logits change_logits(const Kernels& kernels, const Logits& logits, const SamplingParams& params,
                     const LogitChanges& changes, LogitScratch& scratch);

}  // namespace tidemill
