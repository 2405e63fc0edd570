#include "base/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <deque>
#include <mutex>

#include "base/check.h"

namespace tidemill {
namespace {

std::string number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value).ptr;
  return {buffer, end};
}

std::string escaped_label(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n') {
      out += "\\n";
    } else {
      out += c;
    }
  }
  return out;
}

// {a="1",b="2"}, with `extra` as the last pair; empty when there is none.
std::string braces(const Labels& labels, const std::string& extra = "") {
  std::string out;
  for (const auto& [name, value] : labels) {
    out += format("{}{}=\"{}\"", out.empty() ? "{" : ",", name, escaped_label(value));
  }
  if (!extra.empty()) out += (out.empty() ? "{" : ",") + extra;
  return out.empty() ? out : out + "}";
}

}  // namespace

Histogram::Histogram(std::vector<double> upper_bounds)
    : bounds_(std::move(upper_bounds)),
      buckets_(std::make_unique<std::atomic<int64_t>[]>(bounds_.size() + 1)) {
  CHECK(std::is_sorted(bounds_.begin(), bounds_.end()), "bounds of a histogram must ascend");
}

void Histogram::observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
  buckets_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  double sum = sum_.load(std::memory_order_relaxed);
  while (!sum_.compare_exchange_weak(sum, sum + value, std::memory_order_relaxed)) {
  }
}

int64_t Histogram::count() const {
  int64_t count = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) count += buckets_[i].load(std::memory_order_relaxed);
  return count;
}

double Histogram::sum() const { return sum_.load(std::memory_order_relaxed); }

// One name with its HELP and TYPE, and a series per set of labels. Exactly one of the pointers of a
// series is set.
struct MetricsRegistry::State {
  struct Series {
    Labels labels;
    std::unique_ptr<Counter> counter;
    std::unique_ptr<Gauge> gauge;
    std::unique_ptr<Histogram> histogram;
    std::function<double()> read;
    bool once_counted = true;  // shown not before

    bool is_shown() const {
      if (!once_counted) return true;
      return (counter && counter->value() > 0) || (histogram && histogram->count() > 0);
    }
  };
  struct Family {
    std::string name, help, type;
    std::deque<Series> series;  // addresses stay
  };

  Family& family_of(std::string_view name, std::string_view help, std::string_view type) {
    auto family = std::find_if(families.begin(), families.end(),
                               [&](const Family& f) { return f.name == name; });
    if (family == families.end()) {
      families.push_back({std::string(name), std::string(help), std::string(type), {}});
      family = std::prev(families.end());
    }
    CHECK(family->type == type, "metric {} is a {}, not a {}", name, family->type, type);
    return *family;
  }

  Series& series(std::string_view name, std::string_view help, std::string_view type,
                 const Labels& labels, Shown shown = Shown::kAlways) {
    Family& family = family_of(name, help, type);
    auto found = std::find_if(family.series.begin(), family.series.end(),
                              [&](const Series& s) { return s.labels == labels; });
    if (found == family.series.end()) {
      family.series.emplace_back().labels = labels;
      found = std::prev(family.series.end());
    }
    if (shown == Shown::kAlways) found->once_counted = false;
    return *found;
  }

  mutable std::mutex mutex;  // registration and printing; counting takes no lock
  std::deque<Family> families;
};

MetricsRegistry::MetricsRegistry() : state_(std::make_unique<State>()) {}
MetricsRegistry::~MetricsRegistry() = default;

Counter& MetricsRegistry::counter(std::string_view name, std::string_view help,
                                  const Labels& labels, Shown shown) {
  const std::lock_guard lock(state_->mutex);
  auto& made = state_->series(name, help, "counter", labels, shown).counter;
  if (!made) made = std::make_unique<Counter>();
  return *made;
}

Gauge& MetricsRegistry::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(state_->mutex);
  auto& made = state_->series(name, help, "gauge", labels).gauge;
  if (!made) made = std::make_unique<Gauge>();
  return *made;
}

Histogram& MetricsRegistry::histogram(std::string_view name, std::string_view help,
                                      const std::vector<double>& upper_bounds, const Labels& labels,
                                      Shown shown) {
  const std::lock_guard lock(state_->mutex);
  auto& made = state_->series(name, help, "histogram", labels, shown).histogram;
  if (!made) made = std::make_unique<Histogram>(upper_bounds);
  return *made;
}

void MetricsRegistry::callback(std::string_view name, std::string_view help, std::string_view type,
                               const Labels& labels, std::function<double()> read) {
  const std::lock_guard lock(state_->mutex);
  state_->series(name, help, type, labels).read = std::move(read);
}

void MetricsRegistry::declare_like(const MetricsRegistry& other) {
  const std::scoped_lock lock(state_->mutex, other.state_->mutex);
  for (const State::Family& family : other.state_->families) {
    state_->family_of(family.name, family.help, family.type);
  }
}

std::string MetricsRegistry::text() const {
  const std::lock_guard lock(state_->mutex);
  std::string out;
  for (const State::Family& family : state_->families) {
    out +=
        format("# HELP {} {}\n# TYPE {} {}\n", family.name, family.help, family.name, family.type);
    for (const State::Series& s : family.series) {
      if (!s.is_shown()) continue;
      if (s.counter) out += format("{}{} {}\n", family.name, braces(s.labels), s.counter->value());
      if (s.gauge)
        out += format("{}{} {}\n", family.name, braces(s.labels), number(s.gauge->value()));
      if (s.read) out += format("{}{} {}\n", family.name, braces(s.labels), number(s.read()));
      if (!s.histogram) continue;
      const Histogram& h = *s.histogram;
      int64_t below = 0;
      for (size_t i = 0; i <= h.bounds_.size(); ++i) {
        below += h.buckets_[i].load(std::memory_order_relaxed);
        const std::string bound = i < h.bounds_.size() ? number(h.bounds_[i]) : "+Inf";
        out += format("{}_bucket{} {}\n", family.name, braces(s.labels, "le=\"" + bound + "\""),
                      below);
      }
      out += format("{}_sum{} {}\n", family.name, braces(s.labels), number(h.sum()));
      out += format("{}_count{} {}\n", family.name, braces(s.labels), below);
    }
  }
  return out;
}

}  // namespace tidemill
