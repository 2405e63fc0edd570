#include "base/metrics.h"

#include <gtest/gtest.h>

#include <thread>

namespace tidemill {
namespace {

TEST(Metrics, ThePageHasHelpTypeAndEverySeries) {
  MetricsRegistry registry;
  registry.counter("a_total", "Counts a.", {{"kind", "x\"y"}}).add(3);
  registry.gauge("b", "Is b.").set(0.5);
  registry.callback("c", "Reads c.", "gauge", {}, [] { return 7.0; });
  EXPECT_EQ(registry.text(),
            "# HELP a_total Counts a.\n# TYPE a_total counter\na_total{kind=\"x\\\"y\"} 3\n"
            "# HELP b Is b.\n# TYPE b gauge\nb 0.5\n"
            "# HELP c Reads c.\n# TYPE c gauge\nc 7\n");
}

TEST(Metrics, BucketsOfAHistogramAddUpAndIncludeTheirBound) {
  MetricsRegistry registry;
  Histogram& h = registry.histogram("t_seconds", "Takes t.", {0.1, 1}, {{"m", "n"}});
  for (const double value : {0.1, 0.11, 1.0, 5.0}) h.observe(value);
  EXPECT_EQ(registry.text(),
            "# HELP t_seconds Takes t.\n# TYPE t_seconds histogram\n"
            "t_seconds_bucket{m=\"n\",le=\"0.1\"} 1\nt_seconds_bucket{m=\"n\",le=\"1\"} 3\n"
            "t_seconds_bucket{m=\"n\",le=\"+Inf\"} 4\nt_seconds_sum{m=\"n\"} 6.21\n"
            "t_seconds_count{m=\"n\"} 4\n");
}

TEST(Metrics, RegisteringAgainGivesTheSameObject) {
  MetricsRegistry registry;
  EXPECT_EQ(&registry.counter("a", "A."), &registry.counter("a", "A."));
  EXPECT_NE(&registry.counter("a", "A."), &registry.counter("a", "A.", {{"l", "1"}}));
}

TEST(Metrics, ASeriesMayBeShownOnceItHasCounted) {
  MetricsRegistry registry;
  Counter& counter = registry.counter("a_total", "A.", {{"l", "1"}}, Shown::kOnceCounted);
  Histogram& histogram = registry.histogram("h", "H.", {}, {}, Shown::kOnceCounted);
  const std::string a = "# HELP a_total A.\n# TYPE a_total counter\n";
  const std::string h = "# HELP h H.\n# TYPE h histogram\n";
  EXPECT_EQ(registry.text(), a + h);
  counter.add(2);
  EXPECT_EQ(registry.text(), a + "a_total{l=\"1\"} 2\n" + h);
  histogram.observe(1);
  EXPECT_EQ(registry.text(),
            a + "a_total{l=\"1\"} 2\n" + h + "h_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 1\n");
  registry.counter("b_total", "B.", {}, Shown::kOnceCounted);
  registry.counter("b_total", "B.");
  registry.counter("b_total", "B.", {}, Shown::kOnceCounted);
  EXPECT_TRUE(registry.text().ends_with("b_total 0\n")) << "who wants it on the page has it there";
}

TEST(Metrics, FamiliesMayBeDeclaredBeforeTheyHaveSeries) {
  MetricsRegistry sample, registry;
  sample.counter("c_total", "Count.", {{"a", "b"}}).add();
  registry.declare_like(sample);
  EXPECT_EQ(registry.text(), "# HELP c_total Count.\n# TYPE c_total counter\n");
  registry.counter("c_total", "Count.");
  registry.declare_like(sample);  // what is there stays
  EXPECT_EQ(registry.text(), "# HELP c_total Count.\n# TYPE c_total counter\nc_total 0\n");
}

TEST(Metrics, NoCountIsLostBetweenThreads) {
  MetricsRegistry registry;
  Counter& counter = registry.counter("a", "A.");
  Histogram& histogram = registry.histogram("h", "H.", {1.0});
  const auto work = [&] {
    for (int i = 0; i < 20000; ++i) {
      counter.add();
      histogram.observe(0.5);
    }
  };
  std::thread other(work);
  work();
  other.join();
  EXPECT_EQ(counter.value(), 40000);
  EXPECT_EQ(histogram.count(), 40000);
  EXPECT_DOUBLE_EQ(histogram.sum(), 20000.0);
}

}  // namespace
}  // namespace tidemill
