#include "server/text_pool.h"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"
#include "base/thread_name.h"

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
      arrived.wait(lock, [this] { return first || stopping; });
      if (!first) return;
      std::shared_ptr<Job> job = std::exchange(first, nullptr);
      first = std::move(job->next_);
      lock.unlock();
      job->run_();
      job.reset();
      lock.lock();
    }
  }

  std::mutex mutex;
  std::condition_variable arrived;
  // The queue, at most a few jobs per connection: each holds the next.
  std::shared_ptr<Job> first;
  Job* last = nullptr;  // of them, where there is one
  bool stopping = false;
  std::atomic<int64_t> side_requests{0};
  std::vector<std::thread> threads;
};

TextPool::TextPool(int num_threads) : state_(std::make_unique<State>()) {
  for (int i = 0; i < num_threads; ++i) {
    state_->threads.emplace_back([state = state_.get(), i] {
      name_thread(format("text {}", i));
      state->work();
    });
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

void TextPool::post(std::shared_ptr<Job> job) noexcept {
  {
    const std::lock_guard lock(state_->mutex);
    Job* const last = std::exchange(state_->last, job.get());
    (state_->first ? last->next_ : state_->first) = std::move(job);
  }
  state_->arrived.notify_one();
}

}  // namespace tidemill
