// Where the loop finds the stream of a sequence that comes in, and others those of all that have
// not ended. Private to executor/.
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "executor/stream_queue.h"

namespace tidemill {

// The streams of sequences, from submit() to their end: mail is flat, so the loop finds a
// sequence's stream here. Shared by submit(), the loop, and whoever answers where the loop cannot.
class StreamTable {
 public:
  void put(SequenceId id, std::shared_ptr<StreamQueue> stream, RequestTimes::Time arrival);
  struct Entry {
    std::shared_ptr<StreamQueue> stream;
    RequestTimes::Time arrival;
  };
  Entry find(SequenceId id) const;                            // it must be there
  void remove(SequenceId id);                                 // nothing where there is none
  std::vector<std::shared_ptr<StreamQueue>> streams() const;  // of all; some more than once
  std::vector<Entry> take_all();

 private:
  mutable std::mutex mutex_;
  std::unordered_map<SequenceId, Entry> entries_;
};

}  // namespace tidemill
