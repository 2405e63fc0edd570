// A step of the network: forward and sampling, in one parallel section. Owns the KV cache and the
// decoder; kernels, workers and model outlive it.
#pragma once

#include <optional>
#include <vector>

#include "executor/step_runner.h"
#include "model/decoder.h"
#include "model/kv_cache.h"
#include "model/load.h"
#include "parallel/communicator.h"
#include "parallel/worker_pool.h"

namespace tidemill {

class NetworkRunner : public StepRunner {
 public:
  NetworkRunner(const Kernels& kernels, WorkerPool& workers, const Model& model,
                const DecoderLimits& limits, int64_t num_blocks);

  void enter_thread() override;
  StepResult run(const StepInput& input) override;
  int32_t vocab_size() const override;

 private:
  const Kernels& kernels_;
  WorkerPool& workers_;
  const Model& model_;
  Communicator communicator_;
  KvCache cache_;
  Decoder decoder_;
  // Of the step, one per score row; absent where there was no memory to choose.
  std::vector<std::optional<SampledToken>> sampled_;
};

}  // namespace tidemill
