// tidemill serve: a model over HTTP. The port opens at once; the model is compiled and loaded
// behind it, and /ping says 503 with the phase until it is ready.
#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <future>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "base/thread_name.h"
#include "loaded_model.h"
#include "progress_bar.h"
#include "server/heap_guard.h"
#include "server/server.h"
#include "verbs.h"

namespace tidemill {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kSignalsToLeaveAtOnce = 3;
// A model that failed is told by /ping for so long, as the original does.
constexpr milliseconds kShowFailure{3000};
// How long a loading that was told to stop may need to hear it and to remove what it wrote.
constexpr milliseconds kStopLoading{2000};
// How long a step may go on when its requests have their answers and the time to drain is over.
constexpr milliseconds kStopStep{500};
// What requests may take of the heap where the plan leaves less: kv_cache_bytes may ask for all.
constexpr int64_t kLeastHeap = int64_t{256} << 20;

// What signals act on: the loading, and the server while there is one.
class Ending {
 public:
  void request() {
    const std::lock_guard lock(mutex_);
    requested_ = true;
    if (!requested_at_) requested_at_ = Clock::now();
    if (server_ != nullptr) server_->drain();
    changed_.notify_all();
  }
  bool requested() const {
    const std::lock_guard lock(mutex_);
    return requested_;
  }
  // What is left of that time since somebody asked first.
  milliseconds left_of(milliseconds time) const {
    const std::lock_guard lock(mutex_);
    const auto since = requested_at_ ? Clock::now() - *requested_at_ : Clock::duration{0};
    return std::max(milliseconds{0}, time - std::chrono::duration_cast<milliseconds>(since));
  }
  // True when somebody asked within that time.
  bool wait_for(milliseconds time) const {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, time, [this] { return requested_; });
  }

  // While it lives signals drain that server; it goes before the server does, whatever is thrown.
  class Serving {
   public:
    Serving(Ending& ending, Server& server) : ending_(ending) { ending_.set_server(&server); }
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;
    ~Serving() { ending_.set_server(nullptr); }

   private:
    Ending& ending_;
  };

 private:
  void set_server(Server* server) {
    const std::lock_guard lock(mutex_);
    server_ = server;
    if (requested_ && server_ != nullptr) server_->drain();
  }

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  bool requested_ = false;
  std::optional<Clock::time_point> requested_at_;
  Server* server_ = nullptr;
};

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR1);  // ours: the server has ended
  return set;
}

// Waits for signals on a thread of its own: the first ends loading and serving in order, the third
// ends the process. Every thread that is made while it lives has the signals blocked.
class SignalThread {
 public:
  explicit SignalThread(Ending& ending) {
    const sigset_t set = ending_signals();
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGHUP, SIG_IGN);  // a terminal that goes away ends no server
    std::signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this, &ending] { wait(ending); });
  }

  ~SignalThread() {
    done_.store(true);
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

 private:
  void wait(Ending& ending) {
    name_thread("signals");
    const sigset_t set = ending_signals();
    for (int count = 0;;) {
      int signal = 0;
      sigwait(&set, &signal);
      if (done_.load()) return;
      if (signal == SIGUSR1) continue;
      if (++count == kSignalsToLeaveAtOnce) _exit(128 + signal);
      log_info("signal {}: draining", signal);
      ending.request();
    }
  }

  std::atomic<bool> done_{false};
  std::thread thread_;
};

// The model's way from its name to ready, on a thread of its own.
class Loading {
 public:
  Loading(const Settings& settings, WorkerPool& workers, MetricsRegistry& metrics,
          ModelRegistry& registry, HeapGuard& heap, Ending& ending)
      : settings_(settings),
        workers_(workers),
        metrics_(metrics),
        registry_(registry),
        heap_(heap),
        ending_(ending) {
    index_ = registry.add(settings.model.model_name, served_names(settings.model));
  }

  ~Loading() {
    if (!thread_.joinable()) return;
    // What is half-written is under a name of its own, and whoever comes next removes it.
    if (loaded_.wait_for(kStopLoading) != std::future_status::ready) {
      log_warning("the loading does not stop in time; leaving it");
      _exit(0);
    }
    thread_.join();
  }

  void start() {
    std::packaged_task<bool()> task([this] { return load(); });
    loaded_ = task.get_future().share();
    thread_ = std::thread(std::move(task));
  }
  // False: it failed, or was told to stop.
  bool wait() const {
    while (loaded_.wait_for(milliseconds(50)) != std::future_status::ready) {
      if (ending_.requested()) return false;
    }
    return loaded_.get();
  }
  bool failed() const { return failed_.load(); }
  // False: a step of the model has not come back within that time.
  bool stop_model(milliseconds wait) const {
    const bool loaded = loaded_.valid() &&
                        loaded_.wait_for(milliseconds{0}) == std::future_status::ready &&
                        loaded_.get();
    return !loaded || model_->executor().stop(wait);
  }

 private:
  bool load() {
    name_thread("loading");
    ProgressBar bar(stderr, ProgressBar::OnSignal::kNothing);
    const Progress show = bar.callback();
    const auto deadline =
        std::chrono::steady_clock::now() + milliseconds(settings_.model.loading_timeout_ms);
    try {
      model_ = LoadedModel::load(settings_, workers_, metrics_,
                                 [&](const std::string& phase, int percent) {
                                   if (ending_.requested()) throw Stopped(SIGTERM);
                                   if (std::chrono::steady_clock::now() > deadline)
                                     refuse_late(phase, percent);
                                   registry_.set_progress(index_, phase, percent);
                                   show(phase, percent);
                                 });
      bar.finish();
      const int64_t wanted = settings_.server.heap_budget;
      const int64_t heap = wanted > 0 ? wanted : std::max(kLeastHeap, model_->heap_room());
      heap_.allow(heap);
      log_info("requests may take {} bytes of memory beside the model (heap_budget)", heap);
      registry_.set_ready(index_, model_->facts(), model_->executor());
      log_info("{} is ready", model_->facts().name);
      return true;
    } catch (const Stopped&) {
      log_info("the loading was stopped");
    } catch (const std::exception& error) {
      log_error("the model cannot be loaded: {}", error.what());
      registry_.set_failed(index_, error.what());
      failed_.store(true);
      if (!settings_.server.wait_model_loading && !ending_.wait_for(kShowFailure)) {
        ending_.request();
      }
    }
    return false;
  }

  [[noreturn]] void refuse_late(const std::string& phase, int percent) const {
    throw std::runtime_error(
        format("it was not ready after model_loading_timeout = {} s (phase {}, {} %). Raise that, "
               "or compile ahead of time: tidemill compile MODEL --out DIR.",
               static_cast<double>(settings_.model.loading_timeout_ms) / 1000.0, phase, percent));
  }

  const Settings& settings_;
  WorkerPool& workers_;
  MetricsRegistry& metrics_;
  ModelRegistry& registry_;
  HeapGuard& heap_;
  Ending& ending_;
  size_t index_ = 0;
  std::unique_ptr<LoadedModel> model_;
  std::atomic<bool> failed_{false};
  std::shared_future<bool> loaded_;
  std::thread thread_;
};

}  // namespace

int serve(const SettingsReport& report) {
  const Settings& settings = report.settings;
  log_info("{}", limits_line(settings));
  std::signal(SIGHUP, SIG_IGN);  // a terminal that closes takes no server with it
  Ending ending;
  const SignalThread signals(ending);  // before every other thread
  MetricsRegistry metrics;
  WorkerPool workers(settings.workers);
  ModelRegistry registry(metrics);
  HeapGuard heap;
  Loading loading(settings, workers, metrics, registry, heap, ending);
  if (settings.server.wait_model_loading) {
    loading.start();
    if (!loading.wait()) return loading.failed() ? 1 : 0;
  }
  ServerOptions options = settings.server;
  options.heap = &heap;
  Server server(options, registry, metrics);
  log_info("listening on {}:{}{}", settings.server.host, server.port(),
           settings.server.tls.certificate_file.empty() ? "" : " with TLS");
  const Ending::Serving serving(ending, server);
  if (!settings.server.wait_model_loading) loading.start();
  server.run();
  const milliseconds drain_time(settings.server.drain_time_ms);
  if (!loading.stop_model(std::max(kStopStep, ending.left_of(drain_time)))) {
    log_error(
        "a step has not come back since the time to drain was over (drain_time); the program ends "
        "without it");
    _exit(EXIT_FAILURE);  // destructors would wait for the step
  }
  return loading.failed() ? 1 : 0;
}

}  // namespace tidemill
