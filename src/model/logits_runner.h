// Runs token ids through the network alone, without scheduler or sampling, and hands out the logits
// of every position: what `eval` measures and compares.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "kernels/kernels.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/load.h"
#include "parallel/communicator.h"
#include "parallel/worker_pool.h"

namespace tidemill {

class LogitsRunner {
 public:
  // `model` and `workers` outlive this. Sequences of at most max_tokens.
  LogitsRunner(const Kernels& kernels, const Model& model, WorkerPool& workers, int64_t max_tokens);

  // Computes `ids` as a sequence of its own, or behind what was computed before when `first` is
  // not 0. `row` hears (position, logits[vocab_size]) in order; the floats live until it returns.
  void run(std::span<const TokenId> ids, int64_t first,
           const std::function<void(int64_t position, std::span<const float> logits)>& row);

 private:
  void run_chunk(std::span<const TokenId> ids, int64_t first);

  WorkerPool& workers_;
  Communicator communicator_;
  int64_t vocab_size_;
  std::vector<int32_t> block_ids_;  // the one sequence uses blocks 0, 1, 2, ...
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Decoder> decoder_;
};

// Natural log of the softmax of `logits` at `id`, summed in double.
double log_probability(std::span<const float> logits, TokenId id);

}  // namespace tidemill
