#include "server/heap_guard.h"

#include <malloc.h>

#include "base/log.h"

namespace tidemill {
namespace {

constexpr std::chrono::milliseconds kGuardInterval{100};
constexpr double kTightShare = 0.95;
constexpr double kFullShare = 0.98;

}  // namespace

int64_t heap_bytes() {
  const auto info = ::mallinfo2();
  return static_cast<int64_t>(info.uordblks + info.hblkhd);
}

void HeapGuard::allow(int64_t bytes) {
  before_.store(used_());
  budget_.store(bytes);
}

std::optional<HeapGuard::Level> HeapGuard::look(Time now) {
  if (counted_ && now - *counted_ < kGuardInterval) return std::nullopt;
  counted_ = now;
  const auto budget = static_cast<double>(budget_.load());
  const auto taken = static_cast<double>(used_() - before_.load());
  level_ = budget == 0 || taken < kTightShare * budget ? Level::kRoom
           : taken < kFullShare * budget               ? Level::kTight
                                                       : Level::kFull;
  return level_;
}

bool is_full(HeapGuard& heap, const ModelRegistry& models, HeapGuard::Time now) {
  const bool was_full = heap.level() == HeapGuard::Level::kFull;
  const auto level = heap.look(now);
  if (level && *level != HeapGuard::Level::kRoom) {
    for (const ModelView& model : models.all()) {
      if (model.executor != nullptr) model.executor->shed_cache();
    }
  }
  const bool full = heap.level() == HeapGuard::Level::kFull;
  if (full && !was_full) {
    log_warning("requests hold 98 % of heap_budget, {} bytes; new ones are refused", heap.budget());
  }
  if (!full && was_full) log_info("requests hold less of heap_budget again; new ones are let in");
  return full;
}

}  // namespace tidemill
