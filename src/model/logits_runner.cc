#include "model/logits_runner.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr int64_t kChunkTokens = 128;  // bounds the logits held at once

}  // namespace

LogitsRunner::LogitsRunner(const Kernels& kernels, const Model& model, WorkerPool& workers,
                           int64_t max_tokens)
    : workers_(workers), vocab_size_(model.architecture().vocab_size) {
  const int64_t num_blocks = (max_tokens + kTokensPerBlock - 1) / kTokensPerBlock;
  block_ids_.resize(static_cast<size_t>(num_blocks));
  std::iota(block_ids_.begin(), block_ids_.end(), 0);
  cache_ = std::make_unique<KvCache>(kernels, model.architecture(), model.compute_types().cache(),
                                     num_blocks);
  decoder_ = std::make_unique<Decoder>(kernels, model, *cache_, communicator_,
                                       DecoderLimits{.max_model_len = max_tokens,
                                                     .max_step_tokens = kChunkTokens,
                                                     .max_score_rows = kChunkTokens});
}

void LogitsRunner::run(
    std::span<const TokenId> ids, int64_t first,
    const std::function<void(int64_t position, std::span<const float> logits)>& row) {
  for (size_t begin = 0; begin < ids.size(); begin += kChunkTokens) {
    const auto chunk = ids.subspan(begin, std::min<size_t>(kChunkTokens, ids.size() - begin));
    const int64_t position = first + static_cast<int64_t>(begin);
    run_chunk(chunk, position);
    const Tensor logits = decoder_->logits();
    for (size_t i = 0; i < chunk.size(); ++i) {
      const auto* values =
          static_cast<const float*>(logits.data) + static_cast<int64_t>(i) * logits.stride;
      row(position + static_cast<int64_t>(i), {values, static_cast<size_t>(vocab_size_)});
    }
  }
}

void LogitsRunner::run_chunk(std::span<const TokenId> ids, int64_t first) {
  ForwardInput input;
  input.token_ids.assign(ids.begin(), ids.end());
  input.positions.resize(ids.size());
  std::iota(input.positions.begin(), input.positions.end(), static_cast<int32_t>(first));
  input.score_rows.resize(ids.size());
  std::iota(input.score_rows.begin(), input.score_rows.end(), 0);
  input.groups.push_back(
      {.table_begins = std::vector<int32_t>(ids.size(), 0), .block_ids = block_ids_});
  workers_.run([&](Lane& lane) { decoder_->forward(lane, input); });
}

double log_probability(std::span<const float> logits, TokenId id) {
  const float max = *std::max_element(logits.begin(), logits.end());
  double sum = 0.0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - max);
  return static_cast<double>(logits[static_cast<size_t>(id)]) - max - std::log(sum);
}

}  // namespace tidemill
