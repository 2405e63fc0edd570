// What the HTTP side counts, and that counting takes nothing.
#include "server/server_metrics.h"

#include <gmock/gmock.h>

#include "api/error.h"
#include "executor/failing_allocation.h"
#include "server/routes.h"

namespace tidemill {
namespace {

using testing::HasSubstr;
using testing::Not;

// They are counted where memory is out: an exception there costs an answer.
TEST(ServerMetrics, ME_5_CountingTakesNoMemory) {
  MetricsRegistry registry;
  ServerMetrics metrics(registry);
  const auto slugs = error_slugs();
  auto routes = route_patterns();
  routes.push_back({.pattern = "none", .method = "GET"});
  {
    const FailingAllocation failing(0);
    for (const std::string_view slug : slugs) metrics.rejected(slug);
    for (const RoutePattern& route : routes) {
      for (const char* method : {"GET", "POST", "HEAD", "DELETE", "BREW"}) {
        for (const int status : {200, 204, 302, 404, 431, 500, 503}) {
          metrics.answered(route.pattern, method, status, 0.01);
        }
      }
    }
    metrics.left_before_submit();
    metrics.unknown_parameters(2);
    metrics.stalled();
    metrics.stream_written();
    EXPECT_FALSE(FailingAllocation::came()) << "an allocation was tried";
  }
  const std::string page = registry.text();
  for (const std::string_view slug : slugs) {
    EXPECT_THAT(page, HasSubstr("rejected_total{reason=\"" + std::string(slug) + "\"} 1\n"));
  }
  for (const RoutePattern& route : routes) {
    const std::string labels = "{handler=\"" + std::string(route.pattern) + "\",method=\"";
    EXPECT_THAT(page, HasSubstr("requests_total" + labels + "GET\",status=\"2xx\"} 2\n"));
    EXPECT_THAT(page, HasSubstr("requests_total" + labels + "other\",status=\"4xx\"} 4\n"));
    EXPECT_THAT(page, HasSubstr("seconds_count" + labels + "HEAD\"} 7\n"));
  }
}

TEST(ServerMetrics, ME_4_ThePageBeginsWithWhatARoutesOwnMethodLeadsTo) {
  MetricsRegistry registry;
  ServerMetrics metrics(registry);
  const std::string ping = "http_requests_total{handler=\"/ping\",method=";
  EXPECT_THAT(registry.text(), HasSubstr(ping + "\"GET\",status=\"2xx\"} 0\n"));
  EXPECT_THAT(registry.text(), Not(HasSubstr(ping + "\"POST\"")));
  EXPECT_THAT(registry.text(), Not(HasSubstr("handler=\"none\"")));
  metrics.answered("/ping", "POST", 404, 0.1);
  EXPECT_THAT(registry.text(), HasSubstr(ping + "\"POST\",status=\"4xx\"} 1\n"));
  EXPECT_THAT(registry.text(), Not(HasSubstr(ping + "\"POST\",status=\"2xx\"")));
}

}  // namespace
}  // namespace tidemill
