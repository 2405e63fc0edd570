// What the HTTP side counts (apis.md 19).
#pragma once

#include <string_view>

#include "base/metrics.h"

namespace tidemill {

class ServerMetrics {
 public:
  explicit ServerMetrics(MetricsRegistry& registry);

  void answered(std::string_view handler, std::string_view method, int status, double seconds);
  // Of generation requests: refused, or left by their clients before the executor knew of them.
  void rejected(std::string_view slug);
  void left_before_submit() noexcept;
  void unknown_parameters(size_t count);
  void stalled();
  // One write of a streamed answer: what one step gave it, or several where its socket was busy.
  void stream_written();

 private:
  Counter& requests(std::string_view handler, std::string_view method, std::string_view status);
  Histogram& durations(std::string_view handler, std::string_view method);
  Counter& rejections(std::string_view slug);
  void register_process();
  void register_memory();

  MetricsRegistry& registry_;
  Counter& unknown_parameters_;
  Counter& left_;  // of the refused
  Counter& stalls_;
  Counter& stream_writes_;
};

}  // namespace tidemill
