// One answer on its way from the text pool to the socket. The pool writes, the connection takes;
// one short lock. While a stream's connection waits it lends its socket: what the pool makes then
// goes out at once, from the pool's thread. No sockets here.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct AnswerHead {
  int status = 200;
  std::string content_type = "application/json";
  HeaderList headers;  // beside those that the connection adds
};

class Exchange {
 public:
  // `chunked`: what is pushed gets HTTP/1.1's frames.
  explicit Exchange(bool chunked = false) : chunked_(chunked) {}

  // Called (from any thread, holding a lock: it must return at once and not call back) whenever
  // take() has something new. It must not throw: a reader that is not called waits for ever.
  void on_progress(std::function<void()> wake);

  // A whole answer. False, and nothing is sent, when a stream's head is out already or the stream
  // has ended.
  bool respond(AnswerHead head, std::string body);
  // The request was admitted and will be streamed: the head waits for the first bytes, or for
  // release_head().
  void start_stream(AnswerHead head);
  // What one step made, whole events; one write, with the end of the stream where `ended`; behind
  // it nothing counts. Each of the chunks is one on the wire, too. Where it throws (no memory), it
  // is as if it had not been called.
  void push(std::string chunk, bool ended = false);
  void push(std::vector<std::string> chunks, bool ended = false);
  // There is no memory to answer: the connection ends.
  void break_off() noexcept;
  size_t pending_bytes() const;
  bool head_out() const;  // the connection has taken the answer's head

  // The connection's side.
  struct Output {
    std::optional<AnswerHead> head;  // to be sent now
    std::string body;                // the whole body, or the next chunks in their frames
    bool whole = false;              // `body` is all there is
    bool ended = false;              // a stream has ended behind `body`
    bool broken = false;             // nothing comes any more
  };
  Output take();
  // Sends what a socket takes at once and returns how much that was. Called as on_progress() is.
  using Send = std::function<size_t(std::string_view)>;
  // From now on push() may send by itself, where the head is out and nothing waits; take() has what
  // the socket did not take. Nothing else may write to the socket before reclaim().
  void lend(Send send);
  // Afterwards nobody sends. When push() last did so.
  std::chrono::steady_clock::time_point reclaim();
  // Sends a waiting stream's head with the next take(), whatever there is to say.
  void release_head();
  // Since when a stream waits with its head; nothing when none does.
  std::optional<std::chrono::steady_clock::time_point> head_waits_since() const;

 private:
  void changed(const std::lock_guard<std::mutex>& lock) noexcept;
  void append(std::string_view chunk) noexcept;

  const bool chunked_;
  mutable std::mutex mutex_;
  std::function<void()> wake_;
  Send send_;
  std::chrono::steady_clock::time_point last_sent_{};
  std::optional<AnswerHead> head_;
  std::string bytes_;
  bool whole_ = false;
  std::optional<std::chrono::steady_clock::time_point> streaming_since_;
  bool head_out_ = false;
  bool release_ = false;
  bool ended_ = false;
  bool broken_ = false;
};

}  // namespace tidemill
