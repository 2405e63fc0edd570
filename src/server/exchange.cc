#include "server/exchange.h"

#include <algorithm>

namespace tidemill {

// Under the lock, so that after on_progress(nullptr) nobody is called any more.
void Exchange::changed(const std::lock_guard<std::mutex>&) {
  if (wake_) wake_();
}

void Exchange::on_progress(std::function<void()> wake) {
  const std::lock_guard lock(mutex_);
  wake_ = std::move(wake);
}

bool Exchange::respond(AnswerHead head, std::string body) {
  const std::lock_guard lock(mutex_);
  if (head_out_) return false;
  head_ = std::move(head);
  bytes_ = std::move(body);
  pieces_.clear();
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
  for (const std::string& chunk : chunks) {
    if (chunk.empty()) continue;
    bytes_ += chunk;
    pieces_.push_back(chunk.size());
  }
  ended_ = ended_ || ended;
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
  Output output{.whole = whole_, .ended = ended_};
  const bool something = whole_ || ended_ || release_ || !bytes_.empty();
  if (!something || (!head_out_ && !head_)) {
    output.ended = false;
    return output;
  }
  output.body = std::exchange(bytes_, {});
  output.pieces = std::exchange(pieces_, {});
  if (!head_out_) {
    output.head = std::exchange(head_, std::nullopt);
    head_out_ = true;
  }
  return output;
}

}  // namespace tidemill
