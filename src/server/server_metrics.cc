#include "server/server_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "api/error.h"
#include "base/log.h"
#include "executor/executor_metrics.h"
#include "server/routes.h"

namespace tidemill {
namespace {

constexpr std::string_view kClientLeft = "client_left";
constexpr std::string_view kMethods[] = {"GET", "POST", "HEAD", "other"};
constexpr const char* kMemoryBytes = "tidemill:memory_bytes";
constexpr const char* kMemoryHelp = "Memory by what it holds.";

double resident_bytes(int column) {
  std::ifstream in("/proc/self/statm");
  double pages[2] = {0, 0};
  in >> pages[0] >> pages[1];
  return pages[column] * static_cast<double>(sysconf(_SC_PAGESIZE));
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double open_descriptors() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0.0;
  int count = -3;  // ".", "..", and the folder itself
  while (readdir(folder) != nullptr) ++count;
  closedir(folder);
  return count;
}

double most_descriptors() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

}  // namespace

// Every series of a closed set is on the page from the start, at 0 (ME-4); of answers, those that a
// route's own method leads to.
ServerMetrics::ServerMetrics(MetricsRegistry& registry)
    : registry_(registry),
      unknown_parameters_(registry.counter("tidemill:unknown_parameters_total",
                                           "Fields of requests that nobody knows.")),
      left_(rejections(kClientLeft)),
      stalls_(registry.counter("tidemill:stream_stalls_total",
                               "Streams cancelled because nobody read them.")),
      stream_writes_(registry.counter("tidemill:stream_writes_total",
                                      "Writes of streamed answers to their sockets.")) {
  for (const std::string_view slug : error_slugs()) {
    rejections_.emplace_back(slug, &rejections(slug));
  }
  for (const RoutePattern& route : route_patterns()) {
    handlers_.push_back(handler(route.pattern, route.method));
  }
  handlers_.push_back(handler("none", ""));
  declare_executor_metrics(registry);
  register_process();
  register_memory();
}

void ServerMetrics::register_process() {
  const double started = static_cast<double>(std::time(nullptr));
  registry_.callback("process_cpu_seconds_total", "CPU time of the process.", "counter", {},
                     cpu_seconds);
  registry_.callback("process_resident_memory_bytes", "Resident memory.", "gauge", {},
                     [] { return resident_bytes(1); });
  registry_.callback("process_virtual_memory_bytes", "Virtual memory.", "gauge", {},
                     [] { return resident_bytes(0); });
  registry_.callback("process_open_fds", "Open descriptors.", "gauge", {}, open_descriptors);
  registry_.callback("process_max_fds", "Most descriptors.", "gauge", {}, most_descriptors);
  registry_.callback("tidemill:log_lines_dropped_total",
                     "Log lines that standard error did not take at once.", "counter", {},
                     [] { return static_cast<double>(dropped_log_lines()); });
  registry_.callback("process_start_time_seconds", "Start of the process, Unix time.", "gauge", {},
                     [started] { return started; });
}

// Whoever loads a model sets its weights, KV cache and workspace; the rest of what is resident is
// "other".
void ServerMetrics::register_memory() {
  std::vector<const Gauge*> parts;
  for (const char* kind : {"weights", "kv", "workspace"}) {
    parts.push_back(&registry_.gauge(kMemoryBytes, kMemoryHelp, {{"kind", kind}}));
  }
  registry_.callback(kMemoryBytes, kMemoryHelp, "gauge", {{"kind", "other"}}, [parts] {
    double known = 0.0;
    for (const Gauge* part : parts) known += part->value();
    return std::max(0.0, resident_bytes(1) - known);
  });
}

ServerMetrics::Handler ServerMetrics::handler(std::string_view pattern,
                                              std::string_view usual_method) {
  constexpr const char* kClasses[] = {"2xx", "3xx", "4xx", "5xx"};
  Handler made{.pattern = pattern, .by_method = {}};
  for (const std::string_view method : kMethods) {
    const bool usual = method == usual_method;
    Labels labels = {{"handler", std::string(pattern)}, {"method", std::string(method)}};
    Answered& answered = made.by_method.emplace_back();
    answered.seconds = &registry_.histogram(
        "http_request_duration_seconds", "Time from a request's first byte to its answer's end.",
        {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}, labels,
        usual ? Shown::kAlways : Shown::kOnceCounted);
    for (size_t i = 0; i < answered.by_status.size(); ++i) {
      Labels more = labels;
      more.emplace_back("status", kClasses[i]);
      answered.by_status[i] =
          &registry_.counter("http_requests_total", "Answers by route.", more,
                             usual && i == 0 ? Shown::kAlways : Shown::kOnceCounted);
    }
  }
  return made;
}

void ServerMetrics::answered(std::string_view handler, std::string_view method, int status,
                             double seconds) noexcept {
  const auto last = std::prev(handlers_.end());
  const auto route =
      std::find_if(handlers_.begin(), last, [&](const Handler& h) { return h.pattern == handler; });
  const auto known = std::find(std::begin(kMethods), std::prev(std::end(kMethods)), method);
  const Answered& of = route->by_method[static_cast<size_t>(known - std::begin(kMethods))];
  of.by_status[static_cast<size_t>(std::clamp(status / 100, 2, 5) - 2)]->add();
  of.seconds->observe(seconds);
}

// Refused by nobody; it stands among the refused, because a page on which the sequences that ended
// and the requests that were refused are all that came is one that can be checked (ME-5).
void ServerMetrics::left_before_submit() noexcept { left_.add(); }

Counter& ServerMetrics::rejections(std::string_view slug) {
  return registry_.counter("tidemill:requests_rejected_total",
                           "Generation requests that were refused.",
                           {{"reason", std::string(slug)}});
}

void ServerMetrics::rejected(std::string_view slug) noexcept {
  for (const auto& [known, counter] : rejections_) {
    if (known == slug) return counter->add();
  }
}

void ServerMetrics::unknown_parameters(size_t count) noexcept {
  unknown_parameters_.add(static_cast<int64_t>(count));
}

void ServerMetrics::stalled() noexcept { stalls_.add(); }

void ServerMetrics::stream_written() noexcept { stream_writes_.add(); }

}  // namespace tidemill
