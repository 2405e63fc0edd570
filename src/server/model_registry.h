// Which models this server answers for, and in which state each is. Thread-safe: loading threads
// write, the I/O thread and the text pool read. It also keeps the metrics of loading (apis.md 19).
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/schema.h"
#include "base/metrics.h"
#include "executor/executor.h"
#include "server/service_pace.h"

namespace tidemill {

enum class ModelState { kLoading, kReady, kFailed };

// A model as a request finds it. The pointers stay valid while the registry lives: a model is
// unloaded only with the server.
struct ModelView {
  std::string name;                       // DJL's name: /ping and /predictions/{name}
  std::vector<std::string> served_names;  // every name it answers to, canonical first
  ModelState state = ModelState::kLoading;
  std::string phase;  // while loading
  int percent = 0;
  std::string failure;                // why it failed
  const ModelFacts* facts = nullptr;  // of a ready model
  Executor* executor = nullptr;       // of a ready model
  ServicePace* pace = nullptr;        // how fast it gets through its sequences
  int64_t ready_since = 0;            // Unix seconds
};

class ModelRegistry {
 public:
  explicit ModelRegistry(MetricsRegistry& metrics) : metrics_(metrics) {}  // outlives this

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

 private:
  struct Entry {
    ModelView view;
    ServicePace pace;
    std::chrono::steady_clock::time_point added, phase_begun;
  };
  void set_state(Entry& entry, ModelState state);
  void end_phase(Entry& entry);

  MetricsRegistry& metrics_;
  mutable std::mutex mutex_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace tidemill
