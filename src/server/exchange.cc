#include "server/exchange.h"

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
  streaming_ = false;
  changed(lock);
  return true;
}

void Exchange::start_stream(AnswerHead head) {
  const std::lock_guard lock(mutex_);
  head_ = std::move(head);
  streaming_ = true;
  changed(lock);
}

void Exchange::push(std::string bytes) {
  if (bytes.empty()) return;
  const std::lock_guard lock(mutex_);
  bytes_ += bytes;
  pieces_.push_back(bytes.size());
  changed(lock);
}

void Exchange::end() {
  const std::lock_guard lock(mutex_);
  ended_ = true;
  changed(lock);
}

size_t Exchange::pending_bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_.size();
}

bool Exchange::streaming() const {
  const std::lock_guard lock(mutex_);
  return streaming_;
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
