#include "executor/outbox.h"

#include <new>
#include <utility>

#include "executor/ending_errors.h"

namespace tidemill {

Outbox::Outbox() : no_memory_(std::make_shared<const Error>(out_of_memory_error())) {}

void Outbox::reserve(size_t num_streams) { spoken_.reserve(spoken_.size() + num_streams); }

int64_t Outbox::tell(const std::shared_ptr<StreamQueue>& stream, TokenRecord record) {
  const int64_t unread = stream->put(std::move(record));
  // Rows of one request stand together more often than not; telling its reader twice does no harm.
  if (spoken_.empty() || spoken_.back() != stream) spoken_.push_back(stream);
  return unread;
}

void Outbox::tell_error(const std::shared_ptr<StreamQueue>& stream, int32_t choice,
                        const Error& error, const RequestTimes& times) noexcept {
  try {
    tell(stream, {.choice = choice, .error = error, .times = times});
  } catch (const std::bad_alloc&) {
    // Behind a record that is there already, it says nothing new.
    const bool heard = stream->fail(no_memory_);
    if (!heard && spoken_.size() < spoken_.capacity()) spoken_.push_back(stream);
  }
}

void Outbox::call_readers() noexcept {
  std::erase_if(spoken_,
                [](const std::shared_ptr<StreamQueue>& stream) { return stream->announce(); });
}

}  // namespace tidemill
