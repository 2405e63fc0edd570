// tidemill chat: a conversation in the terminal. Answers stream; Ctrl-C stops the answer, not the
// program; Ctrl-D ends it.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <mutex>
#include <stdexcept>
#include <string_view>

#include "loaded_model.h"
#include "progress_bar.h"
#include "sampling_arguments.h"
#include "verbs.h"

namespace tidemill {
namespace {

// How soon Ctrl-C is heard while the model is silent.
constexpr std::chrono::milliseconds kHearEvery{50};

// A handler has no argument that could carry them.
std::atomic<bool> answering{false};
std::atomic<bool> interrupted{false};

void on_interrupt(int) {
  if (answering.load()) {
    interrupted.store(true);
    return;
  }
  constexpr std::string_view kHint = "\n(Ctrl-D ends the conversation)\n> ";
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, kHint.data(), kHint.size());
}

// While it lives, Ctrl-C is a wish of the conversation and not the program's end.
class Interrupts {
 public:
  Interrupts() {
    struct sigaction action {};
    action.sa_handler = on_interrupt;
    action.sa_flags = SA_RESTART;  // the line that is being typed is read on
    sigaction(SIGINT, &action, &old_);
  }
  ~Interrupts() { sigaction(SIGINT, &old_, nullptr); }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

 private:
  struct sigaction old_ {};
};

// Prints what has come; true at the end. A failure of the model is thrown.
bool print(const ResponseStream::Poll& poll, std::string& text) {
  for (const TextEvent& event : poll.events) {
    text += event.text;
    std::fputs(event.text.c_str(), stdout);
  }
  std::fflush(stdout);
  if (poll.error) throw std::runtime_error(poll.error->message);
  return poll.ended;
}

// Streams one answer to the terminal; its text, or what there was of it when Ctrl-C came. Throws
// std::runtime_error when the messages cannot be answered.
std::string answer(LoadedModel& model, const JsonValue& messages, const VerbArguments& arguments) {
  GenerationFields fields = generation_fields(arguments);
  fields.prompts.push_back(ChatPrompt{.messages = messages});
  const auto request =
      GenerationRequest::make(std::move(fields), FieldNames{}, model.facts().limits);
  if (!request) throw std::runtime_error(request.error().message);
  std::mutex mutex;
  std::condition_variable arrived;
  bool ready = false;
  auto stream = model.executor().submit(*request);
  if (!stream) throw std::runtime_error(stream.error().message);
  stream->on_ready([&] {
    const std::lock_guard lock(mutex);
    ready = true;
    arrived.notify_one();
  });
  std::string text;
  while (!interrupted.load() && !print(stream->poll(), text)) {
    std::unique_lock lock(mutex);
    arrived.wait_for(lock, kHearEvery, [&] { return ready; });
    ready = false;
  }
  return text;
}

// One turn: the question and its answer become part of the conversation, or neither does.
void take_turn(LoadedModel& model, JsonValue& messages, const std::string& question,
               const VerbArguments& arguments) {
  messages.array().push_back(chat_message("user", question));
  interrupted.store(false);
  answering.store(true);
  try {
    messages.array().push_back(chat_message("assistant", answer(model, messages, arguments)));
    std::putchar('\n');
  } catch (const std::runtime_error& error) {
    messages.array().pop_back();
    std::printf("(%s)\n", error.what());
  }
  answering.store(false);
}

}  // namespace

int chat(const SettingsReport& report) {
  WorkerPool workers(report.settings.workers);
  MetricsRegistry metrics;
  ProgressBar bar(stderr);
  Settings settings = report.settings;
  settings.executor.busy_log_ms = 0;  // its lines would stand in the answers
  const auto model = LoadedModel::load(settings, workers, metrics, bar.callback());
  bar.finish();
  JsonValue messages = JsonArray{};
  if (!report.settings.verb.system.empty()) {
    messages.array().push_back(chat_message("system", report.settings.verb.system));
  }
  const Interrupts interrupts;
  std::string line;
  while (std::fputs("> ", stdout), std::fflush(stdout), std::getline(std::cin, line)) {
    if (!line.empty()) take_turn(*model, messages, line, report.settings.verb);
  }
  std::putchar('\n');
  return 0;
}

}  // namespace tidemill
