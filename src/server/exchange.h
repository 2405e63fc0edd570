// One answer on its way from the text pool to the socket. The pool writes, the connection takes;
// one short lock. No sockets here.
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
  // Called (from any thread, holding a lock: it must return at once and not call back) whenever
  // take() has something new.
  void on_progress(std::function<void()> wake);

  // A whole answer. False, and nothing is sent, when a stream's head is out already.
  bool respond(AnswerHead head, std::string body);
  // The request was admitted and will be streamed: the head waits for the first bytes, or for
  // release_head().
  void start_stream(AnswerHead head);
  // What one step made, whole events; one write, with the end of the stream where `ended`. Each of
  // the chunks is one on the wire, too.
  void push(std::string chunk, bool ended = false);
  void push(std::vector<std::string> chunks, bool ended = false);
  size_t pending_bytes() const;
  bool head_out() const;  // the connection has taken the answer's head

  // The connection's side.
  struct Output {
    std::optional<AnswerHead> head;  // to be sent now
    std::string body;                // the whole body, or the next chunks
    std::vector<size_t> pieces;      // the sizes of those chunks; together they are `body`
    bool whole = false;              // `body` is all there is
    bool ended = false;              // a stream has ended behind `body`
  };
  Output take();
  // Sends a waiting stream's head with the next take(), whatever there is to say.
  void release_head();
  // Since when a stream waits with its head; nothing when none does.
  std::optional<std::chrono::steady_clock::time_point> head_waits_since() const;

 private:
  void changed(const std::lock_guard<std::mutex>& lock);

  mutable std::mutex mutex_;
  std::function<void()> wake_;
  std::optional<AnswerHead> head_;
  std::string bytes_;
  std::vector<size_t> pieces_;
  bool whole_ = false;
  std::optional<std::chrono::steady_clock::time_point> streaming_since_;
  bool head_out_ = false;
  bool release_ = false;
  bool ended_ = false;
};

}  // namespace tidemill
