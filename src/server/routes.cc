#include "server/routes.h"

#include <algorithm>
#include <optional>

#include "base/ascii.h"
#include "base/check.h"

namespace tidemill {
namespace {

struct Row {
  std::string_view pattern;  // {id} takes the rest, {model} one segment
  RouteKind kind;
  Dialect dialect;
  bool post;  // POST; otherwise GET and HEAD
};

constexpr Row kRows[] = {
    {"/ping", RouteKind::kPing, Dialect::kLmi, false},
    {"/invocations", RouteKind::kInvocation, Dialect::kLmi, true},
    {"/predictions/{model}", RouteKind::kInvocation, Dialect::kLmi, true},
    {"/predictions/{model}/{version}", RouteKind::kInvocation, Dialect::kLmi, true},
    {"/models/{model}/invoke", RouteKind::kInvocation, Dialect::kLmi, true},
    {"/v1/completions", RouteKind::kCompletion, Dialect::kOpenAi, true},
    {"/v1/chat/completions", RouteKind::kChat, Dialect::kOpenAi, true},
    {"/v1/models", RouteKind::kModelList, Dialect::kOpenAi, false},
    {"/v1/models/{id}", RouteKind::kModel, Dialect::kOpenAi, false},
    {"/tokenize", RouteKind::kTokenize, Dialect::kOpenAi, true},
    {"/detokenize", RouteKind::kDetokenize, Dialect::kOpenAi, true},
    {"/tokenizer_info", RouteKind::kTokenizerInfo, Dialect::kPlain, false},
    {"/version", RouteKind::kVersion, Dialect::kPlain, false},
    {"/load", RouteKind::kLoad, Dialect::kPlain, false},
    {"/openapi.json", RouteKind::kOpenApi, Dialect::kPlain, false},
    {"/v1/health", RouteKind::kReady, Dialect::kPlain, false},
    {"/health", RouteKind::kReady, Dialect::kPlain, false},
    {"/health/live", RouteKind::kLive, Dialect::kPlain, false},
    {"/health/ready", RouteKind::kReady, Dialect::kPlain, false},
    {"/metrics", RouteKind::kMetrics, Dialect::kPlain, false},
    {"/server/metrics", RouteKind::kMetrics, Dialect::kLmi, false},
    {"/", RouteKind::kReady, Dialect::kPlain, false},
};

std::optional<std::string> percent_decoded(std::string_view text,
                                           PlusSign plus = PlusSign::kItself) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i] == '+' && plus == PlusSign::kBlank ? ' ' : text[i];
      continue;
    }
    const auto digit = [&](size_t at) -> int {
      if (at >= text.size()) return -1;
      const char c = text[at];
      if (c >= '0' && c <= '9') return c - '0';
      const char lower = static_cast<char>(c | 0x20);
      return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
    };
    const int high = digit(i + 1), low = digit(i + 2);
    if (high < 0 || low < 0 || high * 16 + low == 0) return std::nullopt;
    out += static_cast<char>(high * 16 + low);
    i += 2;
  }
  return out;
}

// Segments between slashes, decoded; nullopt for what is no path of ours. A single trailing slash
// is ignored. An encoded slash stays inside its segment.
std::optional<std::vector<std::string>> segments_of(std::string_view path) {
  if (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  std::vector<std::string> segments;
  path.remove_prefix(1);
  while (true) {
    const size_t slash = std::min(path.find('/'), path.size());
    auto segment = percent_decoded(path.substr(0, slash));
    if (!segment || *segment == "." || *segment == "..") return std::nullopt;
    segments.push_back(std::move(*segment));
    if (slash == path.size()) return segments;
    path.remove_prefix(slash + 1);
  }
}

std::vector<std::string_view> pattern_segments(std::string_view pattern) {
  std::vector<std::string_view> segments;
  pattern.remove_prefix(1);
  while (true) {
    const size_t slash = std::min(pattern.find('/'), pattern.size());
    segments.push_back(pattern.substr(0, slash));
    if (slash == pattern.size()) return segments;
    pattern.remove_prefix(slash + 1);
  }
}

// What stood for {id} or {model}, and for {version}.
struct Matched {
  std::string model;
  std::string version;
};

// nullopt when the path does not match.
std::optional<Matched> match(std::string_view pattern, const std::vector<std::string>& path) {
  const auto wanted = pattern_segments(pattern);
  Matched matched;
  for (size_t i = 0; i < wanted.size(); ++i) {
    if (i >= path.size()) return std::nullopt;
    if (wanted[i] == "{id}") {  // names contain slashes, raw or encoded: the rest is one
      for (size_t j = i; j < path.size(); ++j) matched.model += (j == i ? "" : "/") + path[j];
      return matched.model.empty() ? std::nullopt : std::optional(matched);
    }
    const bool variable = wanted[i].starts_with('{');
    if (path[i].find('/') != std::string::npos || (variable && path[i].empty()))
      return std::nullopt;
    if (!variable && wanted[i] != path[i]) return std::nullopt;
    if (wanted[i] == "{model}") matched.model = path[i];
    if (wanted[i] == "{version}") matched.version = path[i];
  }
  return wanted.size() == path.size() ? std::optional(matched) : std::nullopt;
}

NoRoute not_found(Dialect dialect, const std::vector<std::string>& path) {
  NoRoute miss{.dialect = dialect,
               .message = "Requested resource is not found, please refer to API document."};
  std::vector<std::string> with_prefix = {"v1"};
  with_prefix.insert(with_prefix.end(), path.begin(), path.end());
  for (const Row& row : kRows) {
    if (row.pattern.starts_with("/v1/") && match(row.pattern, with_prefix)) {
      miss.message += format(" Did you mean {}?", row.pattern);
    }
  }
  return miss;
}

std::string lower_type(std::string_view content_type) {
  std::string type = ascii_lower(content_type.substr(0, content_type.find(';')));
  while (!type.empty() && type.back() == ' ') type.pop_back();
  return type;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> decode_pairs(std::string_view text,
                                                              PlusSign plus) {
  std::vector<std::pair<std::string, std::string>> pairs;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find('&'));
    const size_t equals = std::min(item.find('='), item.size());
    auto name = percent_decoded(item.substr(0, equals), plus);
    auto value = percent_decoded(item.substr(std::min(equals + 1, item.size())), plus);
    if (name && value) pairs.emplace_back(std::move(*name), std::move(*value));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
  }
  return pairs;
}

std::string_view Route::query_value(std::string_view name) const {
  for (const auto& [key, value] : query) {
    if (key == name) return value;
  }
  return {};
}

bool generates(RouteKind kind) {
  return kind == RouteKind::kInvocation || kind == RouteKind::kCompletion ||
         kind == RouteKind::kChat;
}

bool needs_text_pool(RouteKind kind) {
  return generates(kind) || kind == RouteKind::kTokenize || kind == RouteKind::kDetokenize;
}

std::vector<RoutePattern> route_patterns() {
  std::vector<RoutePattern> patterns;
  for (const Row& row : kRows) {
    patterns.push_back({row.pattern, row.post ? "POST" : "GET", row.kind, row.dialect});
  }
  return patterns;
}

std::variant<Route, NoRoute> find_route(std::string_view method, std::string_view target,
                                        InvocationMethods methods) {
  const size_t question = std::min(target.find('?'), target.size());
  const std::string_view raw_path = target.substr(0, question);
  const Dialect family = raw_path.starts_with("/v1") ? Dialect::kOpenAi : Dialect::kLmi;
  const auto path = raw_path.starts_with('/') ? segments_of(raw_path) : std::nullopt;
  if (!path) return not_found(family, {});
  std::string allow;
  Dialect dialect = family;
  for (const Row& row : kRows) {
    auto matched = match(row.pattern, *path);
    if (!matched) continue;
    const bool any_method = row.kind == RouteKind::kPing ||  // as the original
                            (row.kind == RouteKind::kInvocation &&
                             methods == InvocationMethods::kAny && method != "HEAD");
    const bool allowed = row.post ? method == "POST" : method == "GET" || method == "HEAD";
    if (allowed || any_method) {
      return Route{.kind = row.kind,
                   .dialect = row.dialect,
                   .pattern = row.pattern,
                   .model = std::move(matched->model),
                   .version = std::move(matched->version),
                   .query = decode_pairs(target.substr(std::min(question + 1, target.size())),
                                         PlusSign::kItself)};
    }
    allow = row.post ? "POST" : "GET, HEAD";
    dialect = row.dialect;
  }
  if (allow.empty()) return not_found(family, *path);
  return NoRoute{.dialect = dialect,
                 .kind = ErrorKind::kMethodNotAllowed,
                 .allow = allow,
                 .message = format("Requested method is not allowed, please refer to API document: "
                                   "{}.",
                                   allow)};
}

bool accepts_content_type(std::string_view content_type, std::string_view body) {
  const std::string all = ascii_lower(content_type);
  if (const size_t charset = all.find("charset="); charset != std::string::npos) {
    std::string_view name = std::string_view(all).substr(charset + 8);
    if (name.starts_with('"')) name.remove_prefix(1);
    if (!name.starts_with("utf-8") && !name.starts_with("utf8")) return false;
  }
  const std::string type = lower_type(content_type);
  if (type.empty() || type == "application/json" || type == "text/json") return true;
  if (type.starts_with("application/") && type.ends_with("+json")) return true;
  // What curl and old clients send by mistake.
  const size_t first = body.find_first_not_of(" \t\r\n");
  const bool looks_like_json =
      first != std::string_view::npos && (body[first] == '{' || body[first] == '[');
  return looks_like_json && (type == "text/plain" || type == "application/x-www-form-urlencoded");
}

}  // namespace tidemill
