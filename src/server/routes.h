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
  kTokenize,
  kDetokenize,
  kTokenizerInfo,
  kVersion,
  kLoad,
  kOpenApi,
  kLive,
  kReady,
  kMetrics,
};

struct Route {
  RouteKind kind = RouteKind::kReady;
  Dialect dialect = Dialect::kPlain;
  std::string_view pattern;  // for metrics and logs: "/v1/models/{id}"
  std::string model;         // what stood for {id} or {model}, decoded
  std::string version;       // what stood for {version}
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
// Does its answer need the text pool? Those that generate, and those that read or write tokens.
bool needs_text_pool(RouteKind kind);

// Every route, with the method that it is mostly asked with: labels of metrics.
struct RoutePattern {
  std::string_view pattern;
  std::string_view method;
  RouteKind kind = RouteKind::kReady;
  Dialect dialect = Dialect::kPlain;
};
std::vector<RoutePattern> route_patterns();

// 0.25.0 takes any method where a model is invoked. Not HEAD here: its answer has no body.
enum class InvocationMethods { kPost, kAny };

// `target` as it stands in the request line. The path is decoded and normalised once, here.
std::variant<Route, NoRoute> find_route(std::string_view method, std::string_view target,
                                        InvocationMethods methods = InvocationMethods::kPost);

// Is this body JSON, going by its content type and first byte (apis.md CO-3)? LMI's routes take
// more: invocation_body.h.
bool accepts_content_type(std::string_view content_type, std::string_view body);

// Names and values between `&`, decoded; what is not spelled right is left out. A form spells a
// blank as `+`, too.
enum class PlusSign { kItself, kBlank };
std::vector<std::pair<std::string, std::string>> decode_pairs(std::string_view text, PlusSign plus);

}  // namespace tidemill
