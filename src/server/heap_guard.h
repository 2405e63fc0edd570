// How near the heap is to its end (robustness.md H-10). What a server has loaded is there before;
// bodies, prompts, answers and streams come and go.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <utility>

#include "server/model_registry.h"

namespace tidemill {

// Bytes that this process has allocated and not given back, in all arenas of malloc.
int64_t heap_bytes();

class HeapGuard {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // kTight: 95 % of the budget are taken; caches should go. kFull: 98 %; nothing new is begun.
  enum class Level : uint8_t { kRoom, kTight, kFull };

  explicit HeapGuard(std::function<int64_t()> used = &heap_bytes) : used_(std::move(used)) {}

  // From now on the heap may grow by so many bytes. Before that everything is kRoom. Any thread.
  void allow(int64_t bytes);

  // One thread. Counts anew at most every tenth of a second, for it locks the arenas; the answer is
  // absent when it is the last one still.
  std::optional<Level> look(Time now);
  Level level() const { return level_; }
  int64_t budget() const { return budget_.load(); }  // bytes, what was taken before allow() aside

 private:
  const std::function<int64_t()> used_;
  std::atomic<int64_t> before_{0};
  std::atomic<int64_t> budget_{0};  // 0: none yet
  std::optional<Time> counted_;
  Level level_ = Level::kRoom;
};

// Looks, and says whether new work is to be refused; near the end the models' caches go first. I/O
// thread only.
bool is_full(HeapGuard& heap, const ModelRegistry& models, HeapGuard::Time now);

}  // namespace tidemill
