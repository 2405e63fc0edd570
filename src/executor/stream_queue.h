// What crosses out of the loop: the tokens of one request on their way to its reader. Written by
// the loop's thread, read by one other; one short lock. Private to executor/.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "executor/response_stream.h"
#include "scheduler/scheduler.h"

namespace tidemill {

// What an unread token counts for where a bound is in bytes.
inline constexpr int64_t kBytesPerUnreadToken = 64;

// One token of one choice, or its end, or both; or what it failed of. Flat: all that crosses out of
// the loop is in it.
struct TokenRecord {
  int32_t choice = 0;
  std::optional<TokenChoice> token;
  std::optional<SequenceEnd> end;
  std::optional<Error> error;
  RequestTimes times;         // of this choice so far
  int64_t cached_tokens = 0;  // that this record adds: of its prompt, found in the prefix cache
  // Scores of the prompt's tokens from the second on, in the first record of its first choice.
  std::vector<TokenChoice> prompt = {};
  bool operator==(const TokenRecord&) const = default;
};

std::string to_bytes(const TokenRecord& record);
std::optional<TokenRecord> token_record_from_bytes(std::string_view bytes);  // nullopt: malformed

class StreamQueue {
 public:
  explicit StreamQueue(RequestTimes::Time arrival = {}) : times_{.arrival = arrival} {}

  // The loop's side. put() returns how many records are unread and tells nobody; announce() tells
  // the reader of all that was put since, so that what one step gave is read at once. push() is
  // both. False: the reader could not be called (no memory), and does not know.
  int64_t put(TokenRecord record);
  bool announce() noexcept { return call_reader(std::unique_lock(mutex_)); }
  int64_t push(TokenRecord record);
  // Ends the request; records that are unread stay readable.
  void fail(Error error) { fail(std::make_shared<const Error>(std::move(error))); }
  bool left() const { return left_.load(); }  // leave() has been called
  // The same without taking memory, for when there is none. False as announce().
  bool fail(std::shared_ptr<const Error> error) noexcept;

  // The reader's side.
  struct Taken {
    std::vector<TokenRecord> records;
    std::shared_ptr<const Error> error;
  };
  Taken take();
  Taken wait();  // until there is something
  // When it returns, the former one is not running and will not be called again. `notify` should
  // take no memory: the loop calls one that threw again with the next record, or a turn later, but
  // behind the last record that is all there is. Throws std::bad_alloc when it threw for what lies
  // there already.
  void on_ready(std::function<void()> notify);
  // The reader has gone, and had no memory to say so by mail.
  void leave() noexcept { left_.store(true); }
  // Of the first choice that began and the last that spoke, read or not.
  RequestTimes times() const;
  int64_t cached_tokens() const;

 private:
  Taken take_locked();
  void merge_times(const RequestTimes& times);
  // Calls the reader once for whatever has come since its last take(). `lock` is released first: a
  // reader may take() at once.
  bool call_reader(std::unique_lock<std::mutex> lock) noexcept;

  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::vector<TokenRecord> records_;
  std::shared_ptr<const Error> error_;
  bool announced_ = false;
  std::atomic<bool> left_{false};
  RequestTimes times_;
  int64_t cached_tokens_ = 0;  // of the prompts, found in the prefix cache

  // Held while the reader is called; mutex_ is not, so that it may take() in the call. Recursive:
  // the call may be the one that gives the stream up.
  std::recursive_mutex calling_;
  std::shared_ptr<const std::function<void()>> notify_;  // copied without taking memory
};

}  // namespace tidemill
