// A few threads for text: parsing, templates, tokenising, detokenising. Never an I/O thread, never
// a compute worker. Jobs run in the order of arrival.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

namespace tidemill {

class TextPool {
 public:
  explicit TextPool(int num_threads);
  ~TextPool();  // runs what was posted, then joins

  // Made ahead, so that posting it takes no memory. In the queue at most once at a time.
  class Job {
   public:
    // Must not throw; what it needs, it owns.
    explicit Job(std::function<void()> run) : run_(std::move(run)) {}

   private:
    friend class TextPool;
    const std::function<void()> run_;
    std::shared_ptr<Job> next_;  // in the queue; the pool's
  };
  void post(std::shared_ptr<Job> job) noexcept;
  void post(std::function<void()> run) { post(std::make_shared<Job>(std::move(run))); }

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
