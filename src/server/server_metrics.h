// What the HTTP side counts (apis.md 19).
#pragma once

#include <string_view>

#include "base/metrics.h"

namespace tidemill {

class ServerMetrics {
 public:
  explicit ServerMetrics(MetricsRegistry& registry);

  void answered(std::string_view handler, std::string_view method, int status, double seconds);
  void rejected(std::string_view slug);
  void unknown_parameters(size_t count);
  void stalled();

 private:
  Counter& rejections(std::string_view slug);

  MetricsRegistry& registry_;
  Counter& unknown_parameters_;
  Counter& stalls_;
};

}  // namespace tidemill
