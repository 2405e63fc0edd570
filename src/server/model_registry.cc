#include "server/model_registry.h"

#include <algorithm>
#include <ctime>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {

size_t ModelRegistry::add(std::string name, std::vector<std::string> served_names) {
  const std::lock_guard lock(mutex_);
  auto entry = std::make_unique<Entry>();
  entry->view.name = std::move(name);
  entry->served_names = std::move(served_names);
  entries_.push_back(std::move(entry));
  return entries_.size() - 1;
}

void ModelRegistry::set_progress(size_t index, std::string phase, int percent) {
  const std::lock_guard lock(mutex_);
  entries_.at(index)->view.phase = std::move(phase);
  entries_.at(index)->view.percent = percent;
}

void ModelRegistry::set_ready(size_t index, const ModelFacts& facts, Executor& executor) {
  const std::lock_guard lock(mutex_);
  ModelView& view = entries_.at(index)->view;
  view.state = ModelState::kReady;
  view.facts = &facts;
  view.executor = &executor;
  view.ready_since = std::time(nullptr);
}

void ModelRegistry::set_failed(size_t index, std::string reason) {
  const std::lock_guard lock(mutex_);
  entries_.at(index)->view.state = ModelState::kFailed;
  entries_.at(index)->view.failure = std::move(reason);
}

Result<ModelView> ModelRegistry::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const Entry* found = name.empty() && entries_.size() == 1 ? entries_.front().get() : nullptr;
  for (const auto& entry : entries_) {
    const auto& names = entry->served_names;
    if (entry->view.name == name || std::find(names.begin(), names.end(), name) != names.end()) {
      found = entry.get();
    }
  }
  if (found == nullptr && name.empty()) {
    return Error{.kind = ErrorKind::kMissingParameter,
                 .field = "model",
                 .message = format("{} models are loaded: say which in model.", entries_.size())};
  }
  if (found == nullptr) {
    return Error{.kind = ErrorKind::kModelNotFound,
                 .field = "model",
                 .message = format("Model not found: {}. GET /v1/models lists what is here.",
                                   excerpt(name))};
  }
  if (found->view.state == ModelState::kLoading) {
    return Error{.kind = ErrorKind::kModelLoading,
                 .field = "",
                 .message = format("Model is not ready: {} ({} {} %)", found->view.name,
                                   found->view.phase, found->view.percent)};
  }
  if (found->view.state == ModelState::kFailed) {
    return Error{.kind = ErrorKind::kModelFailed,
                 .field = "",
                 .message = format("Model is not ready: {} (FAILED); the server's log says why.",
                                   found->view.name)};
  }
  return found->view;
}

std::vector<ModelView> ModelRegistry::all() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelView> views;
  for (const auto& entry : entries_) views.push_back(entry->view);
  return views;
}

std::vector<std::string> ModelRegistry::served_names(size_t index) const {
  const std::lock_guard lock(mutex_);
  return entries_.at(index)->served_names;
}

}  // namespace tidemill
