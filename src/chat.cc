// tidemill chat: a conversation in the terminal. Answers stream; Ctrl-C stops the answer, not the
// program; Ctrl-D ends it.
#include <pthread.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "loaded_model.h"
#include "progress_bar.h"
#include "sampling_arguments.h"
#include "verbs.h"

namespace tidemill {
namespace {

// SIGINT cancels the answer that runs, if one does.
class Interrupt {
 public:
  Interrupt() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    std::thread([this] { wait(); }).detach();  // lives as long as the program
  }

  void watch(ResponseStream* stream) {
    const std::lock_guard lock(mutex_);
    stream_ = stream;
    interrupted_ = false;
  }
  bool interrupted() {
    const std::lock_guard lock(mutex_);
    return interrupted_;
  }

 private:
  void wait() {
    for (;;) {
      int signal = 0;
      sigwait(&set_, &signal);
      const std::lock_guard lock(mutex_);
      if (stream_ == nullptr) {
        std::fputs("\n(Ctrl-D ends the conversation)\n> ", stdout);
        std::fflush(stdout);
      }
      interrupted_ = true;
    }
  }

  sigset_t set_{};
  std::mutex mutex_;
  ResponseStream* stream_ = nullptr;
  bool interrupted_ = false;
};

// Streams one answer to the terminal; its text.
std::string answer(LoadedModel& model, const JsonValue& messages, const VerbArguments& arguments,
                   Interrupt& interrupt) {
  GenerationFields fields = generation_fields(arguments);
  fields.prompts.push_back(ChatPrompt{.messages = messages});
  const auto request =
      GenerationRequest::make(std::move(fields), FieldNames{}, model.facts().limits);
  if (!request) throw std::runtime_error(request.error().message);
  auto stream = model.executor().submit(*request);
  if (!stream) throw std::runtime_error(stream.error().message);
  interrupt.watch(&*stream);
  std::string text;
  for (bool ended = false; !ended && !interrupt.interrupted();) {
    const ResponseStream::Poll poll = stream->wait();
    for (const TextEvent& event : poll.events) {
      text += event.text;
      std::fputs(event.text.c_str(), stdout);
      std::fflush(stdout);
    }
    if (poll.error) std::printf("\n(%s)", poll.error->message.c_str());
    ended = poll.ended;
  }
  interrupt.watch(nullptr);
  std::putchar('\n');
  return text;
}

}  // namespace

int chat(const SettingsReport& report) {
  Interrupt interrupt;  // before other threads: they inherit the blocked signal
  WorkerPool workers(report.settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  const auto model = LoadedModel::load(report.settings, workers, metrics, bar.callback());
  bar.finish();
  JsonValue messages = JsonArray{};
  if (!report.settings.verb.system.empty()) {
    messages.array().push_back(chat_message("system", report.settings.verb.system));
  }
  std::string line;
  while (std::fputs("> ", stdout), std::fflush(stdout), std::getline(std::cin, line)) {
    if (line.empty()) continue;
    messages.array().push_back(chat_message("user", line));
    messages.array().push_back(
        chat_message("assistant", answer(*model, messages, report.settings.verb, interrupt)));
  }
  std::putchar('\n');
  return 0;
}

}  // namespace tidemill
