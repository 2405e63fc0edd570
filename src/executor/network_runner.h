// A step of the network: forward and sampling, in one parallel section. Owns the KV cache and the
// decoder; kernels, workers and model outlive it.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "executor/draft_network.h"
#include "executor/step_runner.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/load.h"
#include "parallel/communicator.h"
#include "parallel/core_time.h"
#include "parallel/worker_pool.h"

namespace tidemill {

class NetworkRunner : public StepRunner {
 public:
  // `watches_cores`: says its delay(), for a few system calls of each worker per step. `drafts`
  // may be null; then nobody asks for any.
  NetworkRunner(const Kernels& kernels, WorkerPool& workers, const Model& model,
                const DecoderLimits& limits, int64_t num_blocks, bool watches_cores = false,
                std::unique_ptr<DraftNetwork> drafts = nullptr);

  void enter_thread() override;
  StepResult& run(const StepInput& input) override;
  std::span<const TokenId> draft(const DraftInput& input) override;
  bool prepare(int64_t used_blocks, Ahead ahead) override;
  int32_t vocab_size() const override;
  double delay() const override { return delay_; }

 private:
  void compute(Lane& lane, const StepInput& input);
  void run_watched(const StepInput& input);
  void collect(const StepInput& input);

  const Kernels& kernels_;
  WorkerPool& workers_;
  const Model& model_;
  Communicator communicator_;
  KvCache cache_;
  Decoder decoder_;
  const std::unique_ptr<DraftNetwork> drafts_;
  // Of the step, one per score row; absent where there was no memory to choose.
  std::vector<std::optional<SampledToken>> sampled_;
  StepResult result_;                  // of the last step; its memory is the next one's
  std::vector<LogitScratch> scratch_;  // one per worker
  std::vector<CoreClock> clocks_;      // one per worker; none where nobody looks
  std::vector<CoreTime> times_;        // of the step before, the same
  double delay_ = 0.0;
};

}  // namespace tidemill
