// tidemill serve: a model over HTTP. The port opens at once; the model is compiled and loaded
// behind it, and /ping says 503 with the phase until it is ready.
#include <pthread.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "loaded_model.h"
#include "progress_bar.h"
#include "server/server.h"
#include "verbs.h"

namespace tidemill {
namespace {

constexpr int kSignalsToLeaveAtOnce = 3;

sigset_t ending_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGUSR1);  // ours: the server has ended
  return set;
}

// Waits for signals on a thread of its own: the first drains, the third ends the process.
class SignalThread {
 public:
  explicit SignalThread(Server& server) : thread_([this, &server] { wait(server); }) {}

  ~SignalThread() {
    done_.store(true);
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }

 private:
  void wait(Server& server) {
    const sigset_t set = ending_signals();
    for (int count = 0;;) {
      int signal = 0;
      sigwait(&set, &signal);
      if (done_.load()) return;
      if (signal == SIGUSR1) continue;
      if (++count == kSignalsToLeaveAtOnce) _exit(128 + signal);
      log_info("signal {}: draining", signal);
      server.drain();
    }
  }

  std::atomic<bool> done_{false};
  std::thread thread_;
};

// Loads the model and tells the registry; false when it failed.
bool load(const Settings& settings, WorkerPool& workers, MetricsRegistry& metrics,
          ModelRegistry& registry, size_t index, std::unique_ptr<LoadedModel>& model) {
  ProgressBar bar(stderr);
  const Progress show = bar.callback();
  try {
    model =
        LoadedModel::load(settings, workers, metrics, [&](const std::string& phase, int percent) {
          registry.set_progress(index, phase, percent);
          show(phase, percent);
        });
    bar.finish();
    registry.set_ready(index, model->facts(), model->executor());
    log_info("{} is ready", model->facts().name);
    return true;
  } catch (const std::exception& error) {
    bar.finish();
    log_error("the model cannot be loaded: {}", error.what());
    registry.set_failed(index, error.what());
    return false;
  }
}

}  // namespace

int serve(const SettingsReport& report) {
  const Settings& settings = report.settings;
  const sigset_t set = ending_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);  // inherited by every thread made from here on

  MetricsRegistry metrics;
  WorkerPool workers(settings.workers);
  ModelRegistry registry;
  std::unique_ptr<LoadedModel> model;
  const size_t index = registry.add(settings.model.model_name, served_names(settings.model));
  if (settings.server.wait_model_loading) {
    if (!load(settings, workers, metrics, registry, index, model)) return 1;
  }
  Server server(settings.server, registry, metrics);
  log_info("listening on {}:{}", settings.server.host, server.port());
  std::atomic<bool> failed{false};
  std::thread loading;
  {
    const SignalThread signals(server);
    if (!settings.server.wait_model_loading) {
      loading = std::thread([&] {
        if (load(settings, workers, metrics, registry, index, model)) return;
        failed.store(true);
        // Long enough for a health check to see 500, as the original does.
        std::this_thread::sleep_for(std::chrono::seconds(3));
        server.drain();
      });
    }
    server.run();
    if (loading.joinable()) loading.join();
  }
  return failed.load() ? 1 : 0;
}

}  // namespace tidemill
