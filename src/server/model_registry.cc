#include "server/model_registry.h"

#include <algorithm>
#include <ctime>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {

namespace {

using Clock = std::chrono::steady_clock;

constexpr std::string_view kStates[] = {"loading", "ready", "failed"};

const std::string& canonical_name(const ModelView& view) {
  return view.served_names.empty() ? view.name : view.served_names.front();
}

double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

Gauge& load_seconds(MetricsRegistry& metrics, const ModelView& view, const std::string& phase) {
  return metrics.gauge("tidemill:model_load_seconds",
                       "Time that loading a model took, by phase and in all.",
                       {{"model", canonical_name(view)}, {"phase", phase}});
}

}  // namespace

size_t ModelRegistry::add(std::string name, std::vector<std::string> served_names) {
  const std::lock_guard lock(mutex_);
  auto entry = std::make_unique<Entry>();
  entry->view.name = std::move(name);
  entry->view.served_names = std::move(served_names);
  entry->view.pace = &entry->pace;
  entry->added = entry->phase_begun = Clock::now();
  set_state(*entry, ModelState::kLoading);
  load_seconds(metrics_, entry->view, "all");
  entries_.push_back(std::move(entry));
  return entries_.size() - 1;
}

void ModelRegistry::set_state(Entry& entry, ModelState state) {
  entry.view.state = state;
  for (size_t i = 0; i < std::size(kStates); ++i) {
    metrics_
        .gauge("tidemill:model_state", "1 for the state that the model is in.",
               {{"model", canonical_name(entry.view)}, {"state", std::string(kStates[i])}})
        .set(static_cast<size_t>(state) == i ? 1.0 : 0.0);
  }
}

void ModelRegistry::end_phase(Entry& entry) {
  if (!entry.view.phase.empty()) {
    load_seconds(metrics_, entry.view, entry.view.phase).set(seconds_since(entry.phase_begun));
  }
  entry.phase_begun = Clock::now();
}

void ModelRegistry::set_progress(size_t index, std::string phase, int percent) {
  const std::lock_guard lock(mutex_);
  Entry& entry = *entries_.at(index);
  if (phase != entry.view.phase) end_phase(entry);
  entry.view.phase = std::move(phase);
  entry.view.percent = percent;
}

void ModelRegistry::set_ready(size_t index, const ModelFacts& facts, Executor& executor) {
  const std::lock_guard lock(mutex_);
  Entry& entry = *entries_.at(index);
  end_phase(entry);
  load_seconds(metrics_, entry.view, "all").set(seconds_since(entry.added));
  entry.view.facts = &facts;
  entry.view.executor = &executor;
  entry.view.ready_since = std::time(nullptr);
  set_state(entry, ModelState::kReady);
}

void ModelRegistry::set_failed(size_t index, std::string reason) {
  const std::lock_guard lock(mutex_);
  entries_.at(index)->view.failure = std::move(reason);
  set_state(*entries_.at(index), ModelState::kFailed);
}

Result<ModelView> ModelRegistry::find(std::string_view name) const {
  const std::lock_guard lock(mutex_);
  const Entry* found = name.empty() && entries_.size() == 1 ? entries_.front().get() : nullptr;
  for (const auto& entry : entries_) {
    const auto& names = entry->view.served_names;
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

}  // namespace tidemill
