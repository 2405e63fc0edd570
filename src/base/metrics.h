// Counters, gauges and histograms in the Prometheus text form (0.0.4). Counting is lock-free;
// families come out in the order of registration, with HELP and TYPE. Label values come from a
// closed set or from configuration, never from requests.
//
// Owner: whoever builds the server (or a test); everything else holds references into it.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tidemill {

using Labels = std::vector<std::pair<std::string, std::string>>;

class Counter {
 public:
  void add(int64_t amount = 1) { value_.fetch_add(amount, std::memory_order_relaxed); }
  int64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<int64_t> value_{0};
};

class Gauge {
 public:
  void set(double value) { value_.store(value, std::memory_order_relaxed); }
  double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0.0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> upper_bounds);  // ascending; +Inf is added
  void observe(double value);
  int64_t count() const;
  double sum() const;

 private:
  friend class MetricsRegistry;
  std::vector<double> bounds_;
  std::unique_ptr<std::atomic<int64_t>[]> buckets_;
  std::atomic<double> sum_{0.0};
};

// Whether a series stands on the page at zero. One that is shown once it has counted may be
// registered in time, for whoever counts when there is no memory, and does not fill the page.
enum class Shown : uint8_t { kAlways, kOnceCounted };

class MetricsRegistry {
 public:
  MetricsRegistry();
  ~MetricsRegistry();

  // Registering the same name and labels again gives the same object. References live as long as
  // the registry. Names are full, prefix included; `help` is one sentence. A series that anybody
  // wants to be shown always is.
  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {},
                   Shown shown = Shown::kAlways);
  Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
  Histogram& histogram(std::string_view name, std::string_view help,
                       const std::vector<double>& upper_bounds, const Labels& labels = {},
                       Shown shown = Shown::kAlways);
  // A gauge or counter that is read when the page is printed.
  void callback(std::string_view name, std::string_view help, std::string_view type,
                const Labels& labels, std::function<double()> read);

  // The families of another registry, without its series: HELP and TYPE stand on the page before
  // anything can be counted.
  void declare_like(const MetricsRegistry& other);

  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemill
