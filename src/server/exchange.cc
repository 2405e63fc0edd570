#include "server/exchange.h"

#include <algorithm>
#include <charconv>

namespace tidemill {
namespace {

constexpr std::string_view kLineEnd = "\r\n";
constexpr std::string_view kLastChunk = "0\r\n\r\n";
constexpr size_t kMaxFrameBytes = 2 * sizeof(size_t) + 2 * kLineEnd.size();  // around a chunk

}  // namespace

// Under the lock, so that after on_progress(nullptr) nobody is called any more.
void Exchange::changed(const std::lock_guard<std::mutex>&) noexcept {
  if (wake_) wake_();
}

void Exchange::on_progress(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

bool Exchange::respond(AnswerHead head, std::string body) {
  const std::lock_guard lock(mutex_);
  if (head_out_ || ended_) return false;
  head_ = std::move(head);
  bytes_ = std::move(body);
  whole_ = true;
  streaming_since_.reset();
  changed(lock);
  return true;
}

void Exchange::start_stream(AnswerHead head) {
  const std::lock_guard lock(mutex_);
  head_ = std::move(head);
  streaming_since_ = std::chrono::steady_clock::now();
  changed(lock);
}

void Exchange::push(std::string chunk, bool ended) {
  push(std::vector<std::string>{std::move(chunk)}, ended);
}

void Exchange::push(std::vector<std::string> chunks, bool ended) {
  const bool nothing = std::all_of(chunks.begin(), chunks.end(),
                                   [](const std::string& chunk) { return chunk.empty(); });
  if (nothing && !ended) return;
  const std::lock_guard lock(mutex_);
  if (ended_) return;
  const bool caught_up = bytes_.empty();
  size_t most = bytes_.size() + kLastChunk.size();
  for (const std::string& chunk : chunks) most += chunk.size() + kMaxFrameBytes;
  bytes_.reserve(most);  // may throw; nothing behind it does
  for (const std::string& chunk : chunks) append(chunk);
  if (ended && chunked_) bytes_ += kLastChunk;
  ended_ = ended;
  if (send_ && caught_up && head_out_ && !ended) {
    bytes_.erase(0, send_(bytes_));
    last_sent_ = std::chrono::steady_clock::now();
    if (bytes_.empty()) return;
  }
  changed(lock);
}

// Where there is room for it.
void Exchange::append(std::string_view chunk) noexcept {
  if (chunk.empty()) return;
  if (chunked_) {
    char size[2 * sizeof(size_t)];
    const auto end = std::to_chars(size, size + sizeof size, chunk.size(), 16).ptr;
    bytes_.append(size, end).append(kLineEnd);
  }
  bytes_ += chunk;
  if (chunked_) bytes_ += kLineEnd;
}

void Exchange::lend(Send send) {
  const std::lock_guard lock(mutex_);
  send_ = std::move(send);
}

std::chrono::steady_clock::time_point Exchange::reclaim() {
  const std::lock_guard lock(mutex_);
  send_ = nullptr;
  return last_sent_;
}

void Exchange::break_off() noexcept {
  const std::lock_guard lock(mutex_);
  broken_ = true;
  changed(lock);
}

size_t Exchange::pending_bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_.size();
}

bool Exchange::head_out() const {
  const std::lock_guard lock(mutex_);
  return head_out_;
}

std::optional<std::chrono::steady_clock::time_point> Exchange::head_waits_since() const {
  const std::lock_guard lock(mutex_);
  return head_out_ || release_ ? std::nullopt : streaming_since_;
}

void Exchange::release_head() {
  const std::lock_guard lock(mutex_);
  release_ = true;
}

Exchange::Output Exchange::take() {
  const std::lock_guard lock(mutex_);
  if (broken_) return {.broken = true};
  Output output{.whole = whole_, .ended = ended_};
  const bool something = whole_ || ended_ || release_ || !bytes_.empty();
  if (!something || (!head_out_ && !head_)) {
    output.ended = false;
    return output;
  }
  output.body = std::exchange(bytes_, {});
  if (!head_out_) {
    output.head = std::exchange(head_, std::nullopt);
    head_out_ = true;
  }
  return output;
}

}  // namespace tidemill
