// A few threads for text: parsing, templates, tokenising, detokenising. Never an I/O thread, never
// a compute worker. Jobs run in the order of arrival.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tidemill {

class TextPool {
 public:
  explicit TextPool(int num_threads);
  ~TextPool();  // runs what was posted, then joins

  // A job must not throw; what it needs, it owns.
  void post(std::function<void()> job);

  // Requests that are answered by the pool alone, and that nothing else bounds: so many at once.
  static constexpr int64_t kMaxSideRequests = 64;
  // A place among them while it lives; `taken` is false when there was none.
  class SidePlace {
   public:
    explicit SidePlace(TextPool& pool);
    ~SidePlace();
    SidePlace(const SidePlace&) = delete;
    SidePlace& operator=(const SidePlace&) = delete;
    bool taken() const { return taken_; }

   private:
    TextPool& pool_;
    const bool taken_;
  };

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
