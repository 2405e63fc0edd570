// Which models this server answers for, and in which state each is. Thread-safe: loading threads
// write, the I/O thread and the text pool read.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/schema.h"
#include "executor/executor.h"

namespace tidemill {

enum class ModelState { kLoading, kReady, kFailed };

// A model as a request finds it. The pointers stay valid while the registry lives: a model is
// unloaded only with the server.
struct ModelView {
  std::string name;  // DJL's name: /ping and /predictions/{name}
  ModelState state = ModelState::kLoading;
  std::string phase;  // while loading
  int percent = 0;
  std::string failure;                // why it failed
  const ModelFacts* facts = nullptr;  // of a ready model
  Executor* executor = nullptr;       // of a ready model
  int64_t ready_since = 0;            // Unix seconds
};

class ModelRegistry {
 public:
  // Announces a model under those names before it is loaded; its index.
  size_t add(std::string name, std::vector<std::string> served_names);
  void set_progress(size_t index, std::string phase, int percent);
  // `facts` and `executor` outlive the registry's use by the server.
  void set_ready(size_t index, const ModelFacts& facts, Executor& executor);
  void set_failed(size_t index, std::string reason);

  // The model of that name; with an empty name the only one. kModelNotFound, kMissingParameter (on
  // `model`), kModelLoading, kModelFailed.
  Result<ModelView> find(std::string_view name) const;
  std::vector<ModelView> all() const;
  std::vector<std::string> served_names(size_t index) const;

 private:
  struct Entry {
    ModelView view;
    std::vector<std::string> served_names;
  };
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace tidemill
