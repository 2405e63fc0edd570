// What the HTTP side counts (apis.md 19). Every series there can be is made with this, so that
// counting takes no memory: what it counts may be that there is none. Any thread.
#pragma once

#include <array>
#include <string_view>
#include <utility>
#include <vector>

#include "base/metrics.h"

namespace tidemill {

class ServerMetrics {
 public:
  explicit ServerMetrics(MetricsRegistry& registry);

  // `handler`: a pattern of route_patterns(), or whatever for what has no route.
  void answered(std::string_view handler, std::string_view method, int status,
                double seconds) noexcept;
  // Of generation requests: refused, or left by their clients before the executor knew of them.
  // `slug`: one of error_slugs().
  void rejected(std::string_view slug) noexcept;
  void left_before_submit() noexcept;
  void unknown_parameters(size_t count) noexcept;
  void stalled() noexcept;
  // One write of a streamed answer: what one step gave it, or several where its socket was busy.
  void stream_written() noexcept;

 private:
  // Of one route and one method.
  struct Answered {
    std::array<Counter*, 4> by_status{};  // 2xx to 5xx
    Histogram* seconds = nullptr;
  };
  struct Handler {
    std::string_view pattern;
    std::vector<Answered> by_method;  // as kMethods
  };

  Handler handler(std::string_view pattern, std::string_view usual_method);
  Counter& rejections(std::string_view slug);
  void register_process();
  void register_memory();

  MetricsRegistry& registry_;
  std::vector<Handler> handlers_;                                  // the last: of what has no route
  std::vector<std::pair<std::string_view, Counter*>> rejections_;  // by slug
  Counter& unknown_parameters_;
  Counter& left_;  // of the refused
  Counter& stalls_;
  Counter& stream_writes_;
};

}  // namespace tidemill
