#include "executor/stream_queue.h"

#include <algorithm>
#include <new>
#include <utility>

#include "executor/record_wire.h"
#include "executor/wire.h"

namespace tidemill {

template <typename Visitor>
void visit_members(Visitor& visit, SequenceEnd& end) {
  visit(end.id);
  visit(end.reason);
  visit(end.stop_id);
}

template <typename Visitor>
void visit_members(Visitor& visit, Error& error) {
  visit(error.kind);
  visit(error.field);
  visit(error.message);
}

template <typename Visitor>
void visit_members(Visitor& visit, RequestTimes& times) {
  visit(times.arrival);
  visit(times.first_scheduled);
  visit(times.first_token);
  visit(times.last_token);
}

template <typename Visitor>
void visit_members(Visitor& visit, TokenRecord& record) {
  visit(record.choice);
  visit(record.token);
  visit(record.end);
  visit(record.error);
  visit(record.times);
  visit(record.cached_tokens);
  visit(record.prompt);
}

std::string to_bytes(const TokenRecord& record) { return wire::to_bytes(record); }

std::optional<TokenRecord> token_record_from_bytes(std::string_view bytes) {
  auto record = wire::from_bytes<TokenRecord>(bytes);
  if (!record) return std::nullopt;
  const auto is_one_of = [](auto value, auto last) {
    return static_cast<int>(value) >= 0 && value <= last;
  };
  if (record->end && !is_one_of(record->end->reason, EndReason::kFailed)) return std::nullopt;
  if (record->error && !is_one_of(record->error->kind, ErrorKind::kInternal)) return std::nullopt;
  return record;
}

// Where the call throws, it is as if it had not been made.
bool StreamQueue::call_reader(std::unique_lock<std::mutex> lock) noexcept {
  const bool call = !std::exchange(announced_, true);
  lock.unlock();
  arrived_.notify_one();
  if (!call) return true;
  try {
    const std::lock_guard calling(calling_);
    const auto notify = notify_;  // a copy: the call may replace it
    if (notify && *notify) (*notify)();
    return true;
  } catch (...) {
    const std::lock_guard again(mutex_);
    announced_ = false;  // the reader has not heard of it
    return false;
  }
}

int64_t StreamQueue::put(TokenRecord record) {
  const std::lock_guard lock(mutex_);
  merge_times(record.times);
  cached_tokens_ += record.cached_tokens;
  records_.push_back(std::move(record));
  return static_cast<int64_t>(records_.size());
}

int64_t StreamQueue::push(TokenRecord record) {
  const int64_t unread = put(std::move(record));
  announce();
  return unread;
}

bool StreamQueue::fail(std::shared_ptr<const Error> error) noexcept {
  std::unique_lock lock(mutex_);
  if (!error_) error_ = std::move(error);
  return call_reader(std::move(lock));
}

void StreamQueue::merge_times(const RequestTimes& times) {
  using Time = RequestTimes::Time;
  const auto first = [](Time& known, Time time) {
    if (time != Time{} && (known == Time{} || time < known)) known = time;
  };
  first(times_.arrival, times.arrival);
  first(times_.first_scheduled, times.first_scheduled);
  first(times_.first_token, times.first_token);
  times_.last_token = std::max(times_.last_token, times.last_token);
}

RequestTimes StreamQueue::times() const {
  const std::lock_guard lock(mutex_);
  return times_;
}

int64_t StreamQueue::cached_tokens() const {
  const std::lock_guard lock(mutex_);
  return cached_tokens_;
}

StreamQueue::Taken StreamQueue::take_locked() {
  announced_ = false;
  Taken taken{.records = std::exchange(records_, {}), .error = error_};
  return taken;
}

StreamQueue::Taken StreamQueue::take() {
  const std::lock_guard lock(mutex_);
  return take_locked();
}

StreamQueue::Taken StreamQueue::wait() {
  std::unique_lock lock(mutex_);
  arrived_.wait(lock, [this] { return !records_.empty() || error_; });
  return take_locked();
}

void StreamQueue::on_ready(std::function<void()> notify) {
  std::shared_ptr<const std::function<void()>> called;
  if (notify) called = std::make_shared<const std::function<void()>>(std::move(notify));
  {
    const std::lock_guard calling(calling_);
    notify_ = std::move(called);
  }
  std::unique_lock lock(mutex_);
  announced_ = false;
  if (records_.empty() && !error_) return;
  if (!call_reader(std::move(lock))) throw std::bad_alloc();
}

}  // namespace tidemill
