#include "server/pages.h"

#include "api/tokenization.h"
#include "base/check.h"
#include "base/json.h"
#include "base/utf8.h"
#include "server/openapi.h"

namespace tidemill {
namespace {

// Loading takes a while; who asks sooner learns nothing new.
constexpr int64_t kRetryWhileLoadingSeconds = 5;

bool has_failed(const ModelView& model) {
  return model.state == ModelState::kFailed ||
         (model.executor != nullptr && model.executor->stats().failed);
}

bool is_stuck(const ModelView& model) {
  return model.executor != nullptr && model.executor->stats().stalled;
}

// What stands in /ping; the worst of all models decides the status.
struct Health {
  int status = 200;
  std::string name;
};

Health health_of(const ModelView& model, bool draining) {
  if (has_failed(model)) return {500, "FAILED"};
  if (model.state == ModelState::kLoading) return {503, "PENDING"};
  if (is_stuck(model)) return {503, "Unhealthy"};
  return draining ? Health{503, "DRAINING"} : Health{200, "Healthy"};
}

Answer ping(const ModelRegistry& models, bool draining) {
  Answer answer{.head = {.status = draining ? 503 : 200}};
  std::string entries;
  for (const ModelView& model : models.all()) {
    const Health health = health_of(model, draining);
    const bool worse = health.status == 500 || answer.head.status == 200;
    if (worse) answer.head.status = health.status;
    std::string name;
    append_html_safe_string(&name, model.name);
    entries += format("{}\n  {}: {{\n    \"status\": \"{}\"\n  }}", entries.empty() ? "" : ",",
                      name, health.name);
  }
  answer.body = entries.empty() ? "{}\n" : "{" + entries + "\n}\n";
  add_lmi_headers(answer.head.headers);
  return answer;
}

// {"status":"ok"}, or what is missing.
Answer ready(const ModelRegistry& models, bool draining) {
  Answer answer;
  JsonWriter out(&answer.body);
  for (const ModelView& model : models.all()) {
    const bool loading = model.state == ModelState::kLoading;
    const bool failed = has_failed(model), stuck = is_stuck(model);
    if (!loading && !failed && !stuck && !draining) continue;
    answer.head.status = 503;
    const int64_t retry = loading ? kRetryWhileLoadingSeconds : 1;
    answer.head.headers.emplace_back("Retry-After", std::to_string(retry));
    out.begin_object();
    out.key("status").value(failed     ? "failed"
                            : loading  ? "loading"
                            : draining ? "draining"
                                       : "stuck");
    out.key("model").value(model.name).key("phase").value(model.phase);
    out.key("percent").value(model.percent).key("detail").value(model.failure).end_object();
    return answer;
  }
  out.begin_object().key("status").value("ok").end_object();
  return answer;
}

Answer live(const ModelRegistry& models) {
  Answer answer{.body = R"({"status":"ok"})"};
  for (const ModelView& model : models.all()) {
    if (has_failed(model)) {
      answer.head.status = 500;
      answer.body = R"({"status":"failed"})";
    }
  }
  return answer;
}

// Every name of every model that can answer now, canonical names first; with `all` those that
// cannot, too.
std::vector<ModelListing> listings(const ModelRegistry& models, bool all) {
  std::vector<ModelListing> list;
  std::vector<ModelListing> aliases;
  for (const ModelView& model : models.all()) {
    const bool is_ready = model.state == ModelState::kReady && !has_failed(model);
    if (!is_ready && !all) continue;
    ModelListing listing{.created = model.ready_since};
    if (!is_ready) listing.status = has_failed(model) ? "failed" : "loading";
    if (model.facts != nullptr) {
      listing.root = model.facts->root;
      listing.max_model_len = model.facts->limits.max_model_len;
    }
    for (const std::string& name : model.served_names) {
      listing.id = name;
      (&name == &model.served_names.front() ? list : aliases).push_back(listing);
    }
  }
  list.insert(list.end(), aliases.begin(), aliases.end());
  return list;
}

// Of that name, or the only one that there is.
Answer tokenizer_info(const ModelRegistry& models, const Route& route) {
  const auto model = models.find(route.query_value("model"));
  if (!model) return answer_error(model.error(), {.dialect = Dialect::kPlain});
  return {.body = tokenizer_info_json(*model->facts, model->executor->text())};
}

// Sequences in all models that run or wait.
Answer load_page(const ModelRegistry& models) {
  int64_t load = 0;
  for (const ModelView& model : models.all()) {
    if (model.executor == nullptr) continue;
    const ExecutorStats stats = model.executor->stats();
    load += stats.running + stats.waiting;
  }
  Answer answer;
  JsonWriter(&answer.body).begin_object().key("server_load").value(load).end_object();
  return answer;
}

Answer version_page() {
  Answer answer;
  JsonWriter out(&answer.body);
  out.begin_object().key("version").value(TIDEMILL_VERSION).key("build").value(TIDEMILL_BUILD);
  out.end_object();
  return answer;
}

Answer one_model(const ModelRegistry& models, const std::string& name) {
  for (const ModelListing& listing : listings(models, false)) {
    if (listing.id == name) return {.body = model_json(listing)};
  }
  return answer_error({.kind = ErrorKind::kModelNotFound,
                       .field = "model",
                       .message = format("Model not found: {}.", excerpt(name))},
                      {.dialect = Dialect::kOpenAi});
}

Answer in_dialect(ErrorAnswer error, Dialect dialect, int64_t retry_after_seconds) {
  Answer answer{.head = {.status = error.status}, .body = std::move(error.body)};
  HeaderList& headers = answer.head.headers;
  const bool overload = error.status == 429 || error.status == 503;
  if (error.retryable && overload) {
    headers.emplace_back("Retry-After", std::to_string(retry_after_seconds));
  }
  if (error.status >= 429) {
    headers.emplace_back("x-should-retry", error.retryable ? "true" : "false");
  }
  if (error.status == 401) headers.emplace_back("WWW-Authenticate", "Bearer");
  if (dialect == Dialect::kLmi) add_lmi_headers(headers);
  return answer;
}

}  // namespace

void add_lmi_headers(HeaderList& headers) {
  headers.emplace_back("Pragma", "no-cache");
  headers.emplace_back("Cache-Control", "no-cache; no-store, must-revalidate, private");
  headers.emplace_back("Expires", "Thu, 01 Jan 1970 00:00:00 UTC");
}

Answer answer_error(const Error& error, const ErrorContext& context) {
  const bool loading = error.kind == ErrorKind::kModelLoading;
  return in_dialect(
      error_answer(error, context.dialect, context.request_id, context.by, context.lmi),
      context.dialect, loading ? kRetryWhileLoadingSeconds : context.retry_after_seconds);
}

Answer answer_http_error(int status, std::string_view message, Dialect dialect,
                         std::string_view request_id, const LmiOptions& lmi) {
  return in_dialect(http_error_answer(status, message, dialect, request_id, lmi), dialect, 1);
}

Answer answer_page(const Route& route, const ModelRegistry& models, bool draining) {
  switch (route.kind) {
    case RouteKind::kPing:
      return ping(models, draining);
    case RouteKind::kLive:
      return live(models);
    case RouteKind::kReady:
      return ready(models, draining);
    case RouteKind::kModelList:
      return {.body = model_list_json(listings(models, route.query_value("all") == "true"))};
    case RouteKind::kModel:
      return one_model(models, route.model);
    case RouteKind::kTokenizerInfo:
      return tokenizer_info(models, route);
    case RouteKind::kLoad:
      return load_page(models);
    case RouteKind::kOpenApi:
      return {.body = openapi_json()};
    case RouteKind::kVersion:
      return version_page();
    default:
      break;
  }
  CHECK(false, "route {} is no page", route.pattern);
}

}  // namespace tidemill
