#include "server/front_gate.h"

#include <algorithm>
#include <stdexcept>

#include "base/ascii.h"
#include "base/check.h"

namespace tidemill {
namespace {

constexpr std::string_view kBearer = "bearer ";

// What tells nothing but health. Whatever is not named here needs a key.
bool is_open(const FrontGate::Found& found, bool metrics_open) {
  const auto* route = std::get_if<Route>(&found);
  if (route == nullptr) return false;
  switch (route->kind) {
    case RouteKind::kPing:
    case RouteKind::kLive:
    case RouteKind::kReady:
      return true;
    case RouteKind::kMetrics:
      return metrics_open && route->pattern == "/metrics";
    default:
      return false;
  }
}

// In the order of the forms: Authorization, x-api-key, api-key.
std::string_view presented_key(const HttpHead& head) {
  std::string_view value = head.field("authorization");
  if (ascii_lower(value.substr(0, kBearer.size())) == kBearer) {
    value.remove_prefix(kBearer.size());
    while (value.starts_with(' ')) value.remove_prefix(1);
    return value;
  }
  const std::string_view other = head.field("x-api-key");
  return other.empty() ? head.field("api-key") : other;
}

Dialect dialect_of(const FrontGate::Found& found) {
  return std::visit([](const auto& either) { return either.dialect; }, found);
}

// A value that would end its header line would begin another.
std::string header_line(std::string_view name, std::string_view option, std::string_view value) {
  if (std::any_of(value.begin(), value.end(),
                  [](unsigned char c) { return c < 0x20 || c >= 0x7f; })) {
    throw std::runtime_error(format("{} must be printable ASCII.", option));
  }
  return value.empty() ? "" : format("{}: {}\r\n", name, value);
}

std::string cors_lines(const GateOptions& options) {
  const GateOptions defaults;
  if (options.cors_allowed_origin.empty()) {
    const bool for_nothing = options.cors_allowed_methods != defaults.cors_allowed_methods ||
                             options.cors_allowed_headers != defaults.cors_allowed_headers;
    if (!for_nothing) return "";
    throw std::runtime_error(
        "cors_allowed_methods and cors_allowed_headers need cors_allowed_origin: set that to the "
        "origin of the pages that may ask, or to *.");
  }
  std::string lines = header_line("Access-Control-Allow-Origin", "cors_allowed_origin",
                                  options.cors_allowed_origin);
  lines += header_line("Access-Control-Allow-Methods", "cors_allowed_methods",
                       options.cors_allowed_methods);
  return lines + header_line("Access-Control-Allow-Headers", "cors_allowed_headers",
                             options.cors_allowed_headers);
}

}  // namespace

FrontGate::FrontGate(const GateOptions& options, const ModelRegistry& models, LmiOptions lmi)
    : options_(options),
      lmi_(std::move(lmi)),
      models_(models),
      keys_(options.api_key, options.api_key_file),
      header_lines_(cors_lines(options)) {}

std::optional<Answer> FrontGate::stops(const HttpHead& head, const Found& found,
                                       std::string_view request_id, std::string& key_name) {
  const bool asks = head.method == "OPTIONS";
  if (asks && !header_lines_.empty()) {  // browsers ask without a key
    return Answer{.head = {.status = 204,
                           .content_type = "",
                           .headers = {{"Access-Control-Max-Age", "600"}}}};
  }
  if (auto answer = check_key(head, found, request_id, key_name)) return answer;
  return asks ? options_page(head) : std::nullopt;
}

std::optional<Answer> FrontGate::check_key(const HttpHead& head, const Found& found,
                                           std::string_view request_id, std::string& key_name) {
  if (!keys_.required() || is_open(found, options_.metrics_open)) return std::nullopt;
  const std::string_view key = presented_key(head);
  if (auto name = keys_.name_of(key, std::chrono::steady_clock::now())) {
    key_name = std::move(*name);
    return std::nullopt;
  }
  const Error error{.kind = ErrorKind::kUnauthorized,
                    .field = "",
                    .message = key.empty() ? "an API key is needed: send Authorization: Bearer KEY."
                                           : "the API key is not one of this server's."};
  return answer_error(error, {.dialect = dialect_of(found),
                              .request_id = request_id,
                              .by = RefusedBy::kFront,
                              .lmi = lmi_});
}

// What the original answers to OPTIONS on two of its paths; on others it is a wrong method.
std::optional<Answer> FrontGate::options_page(const HttpHead& head) const {
  const Found found = find_route("POST", head.target);
  const auto* route = std::get_if<Route>(&found);
  const bool predicts =
      route != nullptr && route->pattern == "/predictions/{model}" && models_.find(route->model);
  if (head.target != "/" && !predicts) return std::nullopt;
  Answer answer{.head = {}, .body = "{}\n"};
  add_lmi_headers(answer.head.headers);
  return answer;
}

}  // namespace tidemill
