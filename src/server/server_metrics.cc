#include "server/server_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <string>

#include "api/error.h"

namespace tidemill {
namespace {

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

ServerMetrics::ServerMetrics(MetricsRegistry& registry)
    : registry_(registry),
      unknown_parameters_(registry.counter("tidemill:unknown_parameters_total",
                                           "Fields of requests that nobody knows.")),
      stalls_(registry.counter("tidemill:stream_stalls_total",
                               "Streams cancelled because nobody read them.")) {
  for (int kind = 0; kind <= static_cast<int>(ErrorKind::kInternal); ++kind) {
    rejections(error_slug(static_cast<ErrorKind>(kind)));  // there from the start, at 0
  }
  const double started = static_cast<double>(std::time(nullptr));
  registry.callback("process_cpu_seconds_total", "CPU time of the process.", "counter", {},
                    cpu_seconds);
  registry.callback("process_resident_memory_bytes", "Resident memory.", "gauge", {},
                    [] { return resident_bytes(1); });
  registry.callback("process_virtual_memory_bytes", "Virtual memory.", "gauge", {},
                    [] { return resident_bytes(0); });
  registry.callback("process_open_fds", "Open descriptors.", "gauge", {}, open_descriptors);
  registry.callback("process_max_fds", "Most descriptors.", "gauge", {}, most_descriptors);
  registry.callback("process_start_time_seconds", "Start of the process, Unix time.", "gauge", {},
                    [started] { return started; });
}

void ServerMetrics::answered(std::string_view handler, std::string_view method, int status,
                             double seconds) {
  const std::string known(method == "GET" || method == "POST" || method == "HEAD" ? method
                                                                                  : "other");
  const std::string family = std::to_string(status / 100) + "xx";
  registry_
      .counter("http_requests_total", "Answers by route.",
               {{"handler", std::string(handler)}, {"method", known}, {"status", family}})
      .add();
  registry_
      .histogram("http_request_duration_seconds", "Time from a request's head to its answer's end.",
                 {.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300},
                 {{"handler", std::string(handler)}, {"method", known}})
      .observe(seconds);
}

Counter& ServerMetrics::rejections(std::string_view slug) {
  return registry_.counter("tidemill:requests_rejected_total",
                           "Generation requests that were refused.",
                           {{"reason", std::string(slug)}});
}

void ServerMetrics::rejected(std::string_view slug) { rejections(slug).add(); }

void ServerMetrics::unknown_parameters(size_t count) {
  unknown_parameters_.add(static_cast<int64_t>(count));
}

void ServerMetrics::stalled() { stalls_.add(); }

}  // namespace tidemill
