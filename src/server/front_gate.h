// What every request passes before its route (apis.md CO-9, CO-11; serving-contract.md 2.1, 2.10):
// questions of browsers, the key, OPTIONS. It judges the route that find_route() gave, so what is
// let in is what is served. I/O thread only.
#pragma once

#include <optional>
#include <string>
#include <variant>

#include "server/api_keys.h"
#include "server/http_head.h"
#include "server/model_registry.h"
#include "server/pages.h"
#include "server/routes.h"

namespace tidemill {

struct GateOptions {
  std::string api_key;
  std::string api_key_file;
  bool metrics_open = false;        // /metrics needs no key
  std::string cors_allowed_origin;  // empty: no answer speaks of origins
  std::string cors_allowed_methods = "GET, HEAD, POST, OPTIONS";
  std::string cors_allowed_headers =
      "Authorization, Content-Type, api-key, x-api-key, x-request-id";
};

class FrontGate {
 public:
  using Found = std::variant<Route, NoRoute>;

  // `models` outlives this. Throws std::runtime_error for options that cannot be obeyed.
  FrontGate(const GateOptions& options, const ModelRegistry& models, LmiOptions lmi = {});

  // The answer to a request that goes no further. Of one that does, `key_name` is whose key it had.
  std::optional<Answer> stops(const HttpHead& head, const Found& found, std::string_view request_id,
                              std::string& key_name);

  // Header lines of every answer, each with its end; may be empty.
  const std::string& header_lines() const { return header_lines_; }

 private:
  std::optional<Answer> check_key(const HttpHead& head, const Found& found,
                                  std::string_view request_id, std::string& key_name);
  std::optional<Answer> options_page(const HttpHead& head) const;

  const GateOptions options_;
  const LmiOptions lmi_;
  const ModelRegistry& models_;
  ApiKeys keys_;
  std::string header_lines_;
};

}  // namespace tidemill
