#include "executor/stream_table.h"

#include <utility>

#include "base/check.h"

namespace tidemill {

void StreamTable::put(SequenceId id, std::shared_ptr<StreamQueue> stream,
                      RequestTimes::Time arrival) {
  const std::lock_guard lock(mutex_);
  entries_[id] = {std::move(stream), arrival};
}

StreamTable::Entry StreamTable::find(SequenceId id) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(id);
  CHECK(found != entries_.end(), "sequence {} has no stream", id);
  return found->second;
}

void StreamTable::remove(SequenceId id) {
  const std::lock_guard lock(mutex_);
  entries_.erase(id);
}

std::vector<std::shared_ptr<StreamQueue>> StreamTable::streams() const {
  const std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<StreamQueue>> streams;
  for (const auto& [id, entry] : entries_) streams.push_back(entry.stream);
  return streams;
}

std::vector<StreamTable::Entry> StreamTable::take_all() {
  const std::lock_guard lock(mutex_);
  std::vector<Entry> all;
  for (auto& [id, entry] : entries_) all.push_back(std::move(entry));
  entries_.clear();
  return all;
}

}  // namespace tidemill
