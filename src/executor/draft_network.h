// A draft model: a small network that guesses what a large one will say next. It has a cache of its
// own with the same blocks, so that a block table is one of both. Nothing depends on whether it is
// right but how fast answers come. Kernels, workers and model outlive it.
#pragma once

#include <vector>

#include "executor/draft_input.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/load.h"
#include "parallel/communicator.h"
#include "parallel/worker_pool.h"

namespace tidemill {

class DraftNetwork {
 public:
  // Drafts are below `vocab_size`, the large model's, too. A token that this one does not have is
  // another one to it.
  DraftNetwork(const Kernels& kernels, WorkerPool& workers, const Model& model,
               const DecoderLimits& limits, int64_t num_blocks, int64_t vocab_size);

  // The drafts, one row's behind the other's: what the model itself would choose with the row's
  // settings. One parallel section. Valid until the next call.
  std::span<const TokenId> draft(const DraftInput& input);
  // As StepRunner::prepare(), of its own cache.
  bool prepare(int64_t used_blocks, int64_t bytes_ahead) {
    return cache_.touch_ahead(workers_, used_blocks, bytes_ahead);
  }
  bool has_failed() const { return model_.has_failed(); }  // as Model::has_failed()

 private:
  // One forward pass, which makes a draft of each of these rows.
  struct Pass {
    ForwardInput forward;
    std::vector<size_t> rows;  // of the input
  };
  void lay_out(const DraftInput& input);
  void lay_out_pass(const DraftInput& input, size_t pass);
  void choose(Lane& lane, const DraftInput& input, size_t pass);

  const Kernels& kernels_;
  WorkerPool& workers_;
  Communicator communicator_;
  KvCache cache_;
  Decoder decoder_;
  const Model& model_;
  const int64_t vocab_size_;
  std::vector<Pass> passes_;  // those of the input first; their memory is the next one's
  size_t num_passes_ = 0;
  std::vector<size_t> begins_;  // of each row's drafts
  std::vector<TokenId> drafts_;
  std::vector<LogitScratch> scratch_;  // one per worker
};

}  // namespace tidemill
