// The routes, once: which path and method lead where, and in which dialect errors are told.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "api/schema.h"

namespace tidemill {

enum class RouteKind {
  kPing,
  kInvocation,
  kCompletion,
  kChat,
  kModelList,
  kModel,
  kLive,
  kReady,
  kMetrics,
};

struct Route {
  RouteKind kind = RouteKind::kReady;
  Dialect dialect = Dialect::kPlain;
  std::string_view pattern;  // for metrics and logs: "/v1/models/{id}"
  std::string model;         // what stood for {id} or {model}, decoded
  std::vector<std::pair<std::string, std::string>> query;  // decoded

  std::string_view query_value(std::string_view name) const;
};

struct NoRoute {
  Dialect dialect = Dialect::kPlain;
  ErrorKind kind = ErrorKind::kNotFound;
  std::string allow;  // for 405: the methods of that path
  std::string message;
};

// Does that route compute, and take a place in the queue?
bool generates(RouteKind kind);

// Every route, with the method that it is mostly asked with: labels of metrics.
struct RoutePattern {
  std::string_view pattern;
  std::string_view method;
};
std::vector<RoutePattern> route_patterns();

// `target` as it stands in the request line. The path is decoded and normalised once, here.
std::variant<Route, NoRoute> find_route(std::string_view method, std::string_view target);

// Is this body JSON, going by its content type and first byte (apis.md CO-3; serving-contract 2.4)?
bool accepts_content_type(Dialect dialect, std::string_view content_type, std::string_view body);

}  // namespace tidemill
