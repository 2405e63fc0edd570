// What the loop says to readers. Records are put as they come; readers hear of a step when all of
// it is there, each once. Used by the loop's thread. Private to executor/.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "executor/stream_queue.h"

namespace tidemill {

class Outbox {
 public:
  // Room to remember as many streams as sequences may be in the system is taken here, though never
  // for more than a server's largest queue: a command that reads a file bounds its queue by
  // nothing.
  explicit Outbox(int64_t num_streams);

  // Returns how many records are unread.
  int64_t tell(const std::shared_ptr<StreamQueue>& stream, TokenRecord record);
  // Whatever memory there is: a request has its ending.
  void tell_error(const std::shared_ptr<StreamQueue>& stream, int32_t choice, const Error& error,
                  const RequestTimes& times) noexcept;
  // One that could not be called stays, for the next time.
  void call_readers() noexcept;

  // What is left to say when there is no memory to say anything. Made in time.
  const Error& no_memory() const { return *no_memory_; }

 private:
  void remember(const std::shared_ptr<StreamQueue>& stream);

  std::vector<std::shared_ptr<StreamQueue>> spoken_;  // given something, and not called yet
  const std::shared_ptr<const Error> no_memory_;      // shared with the streams that say it
};

}  // namespace tidemill
