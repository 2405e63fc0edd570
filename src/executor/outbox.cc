#include "executor/outbox.h"

#include <algorithm>
#include <new>
#include <utility>

#include "executor/ending_errors.h"

namespace tidemill {
namespace {

constexpr int64_t kMostRemembered = 101'024;  // the largest queue and batch that can be set

}  // namespace

Outbox::Outbox(int64_t num_streams)
    : no_memory_(std::make_shared<const Error>(out_of_memory_error())) {
  spoken_.reserve(static_cast<size_t>(std::clamp(num_streams, int64_t{0}, kMostRemembered)));
}

// Rows of one request stand together more often than not, and calling its reader twice does no
// harm: looked for only where it saves memory.
void Outbox::remember(const std::shared_ptr<StreamQueue>& stream) {
  if (!spoken_.empty() && spoken_.back() == stream) return;
  if (spoken_.size() == spoken_.capacity() &&
      std::find(spoken_.begin(), spoken_.end(), stream) != spoken_.end()) {
    return;
  }
  spoken_.push_back(stream);
}

// Remembered first: a record that was put and fails would be told twice.
int64_t Outbox::tell(const std::shared_ptr<StreamQueue>& stream, TokenRecord record) {
  remember(stream);
  return stream->put(std::move(record));
}

void Outbox::tell_error(const std::shared_ptr<StreamQueue>& stream, int32_t choice,
                        const Error& error, const RequestTimes& times) noexcept {
  try {
    tell(stream, {.choice = choice, .error = error, .times = times});
  } catch (const std::bad_alloc&) {
    // Behind a record that is there already, it says nothing new.
    if (stream->fail(no_memory_)) return;
    try {
      remember(stream);
    } catch (const std::bad_alloc&) {
      // More readers than sequences may be in the system could not be called: those that wait for
      // a call hear of it when they look.
    }
  }
}

void Outbox::call_readers() noexcept {
  std::erase_if(spoken_,
                [](const std::shared_ptr<StreamQueue>& stream) { return stream->announce(); });
}

}  // namespace tidemill
