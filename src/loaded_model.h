// An engine directory (or a script) turned into a running model: kernels, weights, KV cache, text,
// executor. Shared by the verbs; owns everything it is made of, except the worker pool and the
// metrics, which outlive it.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "api/schema.h"
#include "base/metrics.h"
#include "draft_model.h"
#include "executor/executor.h"
#include "model/load.h"
#include "model/memory_plan.h"
#include "open_model.h"
#include "parallel/worker_pool.h"
#include "settings/options.h"

namespace tidemill {

class LoadedModel {
 public:
  // Compiles if needed. `progress` hears the phases. Throws std::runtime_error.
  static std::unique_ptr<LoadedModel> load(const Settings& settings, WorkerPool& workers,
                                           MetricsRegistry& metrics, const Progress& progress);

  Executor& executor() { return *executor_; }
  const ModelFacts& facts() const { return facts_; }
  // Bytes that are left for requests beside weights, workspace and KV cache.
  int64_t heap_room() const { return heap_room_; }
  // Null for a script.
  const Model* model() const { return model_.get(); }

 private:
  LoadedModel() = default;
  void load_script(const Settings& settings, MetricsRegistry& metrics);
  void load_network(const Settings& settings, WorkerPool& workers, MetricsRegistry& metrics,
                    const Progress& progress);

  int64_t heap_room_ = 0;
  std::unique_ptr<Model> model_;
  std::unique_ptr<DraftModel> draft_;  // null where there is none
  ModelFacts facts_;
  std::unique_ptr<Executor> executor_;  // last: its loop uses the others
};

// Every name that the model answers to, the canonical one first (apis.md CO-15).
std::vector<std::string> served_names(const ModelSettings& settings);

// What of the settings concerns memory. Throws std::runtime_error when max_model_len is beyond what
// the model was made for.
MemoryWishes memory_wishes(const Settings& settings, const Architecture& architecture);

// What of the settings concerns opening the engine.
OpenOptions engine_options(const ModelSettings& settings);
ModelOptions model_options(const ModelSettings& settings);

// tokenizer.json and chat template as text/ wants them; a template file of the settings wins.
TextParts make_text_parts(const TextFiles& files, const Architecture& architecture,
                          const ModelSettings& settings);

}  // namespace tidemill
