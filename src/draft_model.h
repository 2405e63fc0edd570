// The draft model that settings name, beside the model that it drafts for: opened, compiled if
// needed, and found to fit. Used by loaded_model.cc.
#pragma once

#include <cstdint>
#include <memory>

#include "executor/draft_network.h"
#include "model/engine_dir.h"
#include "model/load.h"
#include "model/memory_plan.h"
#include "open_model.h"
#include "settings/options.h"

namespace tidemill {

class DraftModel {
 public:
  // Null where settings name none. `wishes` are those of the model, and `text` its files. Throws
  // std::runtime_error that says what must be changed: where speculative is off, where it is the
  // model itself, where that has a sliding window, and where the two do not have the same tokens.
  static std::unique_ptr<DraftModel> load(const Settings& settings, const Model& model,
                                          const TextFiles& text, const MemoryWishes& wishes,
                                          WorkerPool& workers, const Progress& progress);

  Model& model() { return *model_; }
  // The engine was compiled into memory; its files are gone by now.
  bool in_memory() const { return in_memory_; }
  CompanionMemory memory() const;
  int64_t max_model_len() const;
  std::unique_ptr<DraftNetwork> network(const Kernels& kernels, WorkerPool& workers,
                                        int64_t num_blocks, int64_t vocab_size) const;

 private:
  std::unique_ptr<Model> model_;
  MemoryWishes wishes_;  // the model's
  bool in_memory_ = false;
};

// What settings say of opening it, and what it takes beside a model of those wishes.
OpenOptions draft_options(const Settings& settings);
CompanionMemory companion_memory(const Architecture& architecture, const ComputeTypes& types,
                                 int64_t weight_bytes, const MemoryWishes& wishes);

// Refuses a draft model whose tokens are not those of the model: with the names of both, and the
// first token that differs. Without a tokenizer their number must be the same.
void require_same_tokens(const std::string& model, const TextFiles& text, int64_t vocab_size,
                         const std::string& draft, const TextFiles& draft_text,
                         int64_t draft_vocab_size);

}  // namespace tidemill
