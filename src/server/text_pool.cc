#include "server/text_pool.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

namespace tidemill {
namespace {

// Behind the workers on a core that both want: a step must not wait for JSON.
constexpr int kNice = 5;

}  // namespace

struct TextPool::State {
  void work() {
    setpriority(PRIO_PROCESS, static_cast<id_t>(syscall(SYS_gettid)), kNice);
    std::unique_lock lock(mutex);
    for (;;) {
      arrived.wait(lock, [this] { return !jobs.empty() || stopping; });
      if (jobs.empty()) return;
      const std::function<void()> job = std::move(jobs.front());
      jobs.pop_front();
      lock.unlock();
      job();
      lock.lock();
    }
  }

  std::mutex mutex;
  std::condition_variable arrived;
  std::deque<std::function<void()>> jobs;  // at most a few per connection
  bool stopping = false;
  std::atomic<int64_t> side_requests{0};
  std::vector<std::thread> threads;
};

TextPool::TextPool(int num_threads) : state_(std::make_unique<State>()) {
  for (int i = 0; i < num_threads; ++i) {
    state_->threads.emplace_back([state = state_.get()] { state->work(); });
  }
}

TextPool::SidePlace::SidePlace(TextPool& pool)
    : pool_(pool), taken_(pool.state_->side_requests.fetch_add(1) < kMaxSideRequests) {}

TextPool::SidePlace::~SidePlace() { pool_.state_->side_requests.fetch_sub(1); }

TextPool::~TextPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
  }
  state_->arrived.notify_all();
  for (std::thread& thread : state_->threads) thread.join();
}

void TextPool::post(std::function<void()> job) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->jobs.push_back(std::move(job));
  }
  state_->arrived.notify_one();
}

}  // namespace tidemill
