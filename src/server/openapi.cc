#include "server/openapi.h"

#include <algorithm>
#include <vector>

#include "api/field_schemas.h"
#include "api/lmi_format.h"
#include "base/check.h"
#include "server/routes.h"

namespace tidemill {
namespace {

// What a route is for. Schemas are names of components; a stream's are those of one event.
struct Operation {
  RouteKind kind;
  std::string_view summary;
  std::string_view request = {};
  std::string_view answer = {};
  std::string_view stream = {};
  std::string_view media = "application/json";
  std::span<const int> statuses = {};  // beside 200 and those that every request may meet
};

// What HTTP itself, the door and limits may say to any request.
constexpr int kEverywhere[] = {400, 401, 408, 413, 414, 415, 431, 500, 501, 503, 505};
constexpr int kGeneration[] = {404, 429};
constexpr int kInvocation[] = {404, 424, 429};
constexpr int kNamed[] = {404};

constexpr Operation kOperations[] = {
    {.kind = RouteKind::kPing, .summary = "SageMaker's health check.", .answer = "Any"},
    {.kind = RouteKind::kInvocation,
     .summary = "Generates in DJL's LMI form; a body with messages or prompt is answered as an "
                "OpenAI request.",
     .request = "Invocation",
     .answer = "InvocationAnswer",
     .statuses = kInvocation},
    {.kind = RouteKind::kCompletion,
     .summary = "Continues prompts.",
     .request = "CompletionRequest",
     .answer = "Completion",
     .stream = "Completion",
     .statuses = kGeneration},
    {.kind = RouteKind::kChat,
     .summary = "Answers a conversation.",
     .request = "ChatRequest",
     .answer = "ChatCompletion",
     .stream = "ChatCompletionChunk",
     .statuses = kGeneration},
    {.kind = RouteKind::kModelList,
     .summary = "The names that models answer to.",
     .answer = "ModelList"},
    {.kind = RouteKind::kModel, .summary = "One of them.", .answer = "Model", .statuses = kNamed},
    {.kind = RouteKind::kTokenize,
     .summary = "The token ids of a text or a conversation.",
     .request = "TokenizeRequest",
     .answer = "Tokens",
     .statuses = kGeneration},
    {.kind = RouteKind::kDetokenize,
     .summary = "The text of token ids.",
     .request = "DetokenizeRequest",
     .answer = "Text",
     .statuses = kGeneration},
    {.kind = RouteKind::kTokenizerInfo,
     .summary = "Special tokens and the chat template.",
     .answer = "TokenizerInfo",
     .statuses = kNamed},
    {.kind = RouteKind::kLive, .summary = "Does the process answer?", .answer = "Health"},
    {.kind = RouteKind::kReady, .summary = "Can every model answer?", .answer = "Health"},
    {.kind = RouteKind::kMetrics,
     .summary = "Metrics for Prometheus.",
     .answer = "Any",
     .media = "text/plain"},
    {.kind = RouteKind::kVersion, .summary = "Which program this is.", .answer = "Version"},
    {.kind = RouteKind::kLoad, .summary = "Sequences that run or wait.", .answer = "Load"},
    {.kind = RouteKind::kOpenApi, .summary = "This document.", .answer = "Any"},
};

// Several kinds of bodies are named after what they hold.
std::string_view taken(const Operation& operation) {
  return operation.kind == RouteKind::kInvocation
             ? "InvocationRequest, InvocationChatRequest or CompletionRequest; or a form, text, CSV"
             : operation.request;
}

const Operation& operation_of(RouteKind kind) {
  for (const Operation& operation : kOperations) {
    if (operation.kind == kind) return operation;
  }
  CHECK(false, "route kind {} is not described", static_cast<int>(kind));
}

std::vector<int> error_statuses(const Operation& operation) {
  std::vector<int> all(std::begin(kEverywhere), std::end(kEverywhere));
  all.insert(all.end(), operation.statuses.begin(), operation.statuses.end());
  std::sort(all.begin(), all.end());
  return all;
}

JsonValue reference(std::string_view schema) {
  return JsonObject{{"$ref", "#/components/schemas/" + std::string(schema)}};
}

JsonValue content(std::string_view media, std::string_view schema) {
  JsonValue of_schema = JsonObject{{"schema", reference(schema)}};
  JsonValue of_media = JsonObject{};
  of_media.set(media, std::move(of_schema));
  return of_media;
}

JsonValue parameter(const char* name, const char* in, const char* description) {
  return JsonObject{{"name", name},
                    {"in", in},
                    {"required", std::string_view(in) == "path"},
                    {"description", description},
                    {"schema", JsonObject{{"type", "string"}}}};
}

JsonArray parameters(const RoutePattern& route) {
  JsonArray all;
  if (route.pattern.find("{id}") != std::string_view::npos) {
    all.push_back(parameter("id", "path", "The rest of the path: names hold slashes."));
  }
  if (route.pattern.find("{model}") != std::string_view::npos) {
    all.push_back(parameter("model", "path", "The model's name."));
  }
  if (route.pattern.find("{version}") != std::string_view::npos) {
    all.push_back(parameter("version", "path", "Models have no versions here: any is not found."));
  }
  if (route.kind == RouteKind::kModelList) {
    all.push_back(parameter("all", "query", "true lists models that cannot answer now, too."));
  }
  if (route.kind == RouteKind::kTokenizerInfo) {
    all.push_back(parameter("model", "query", "Which model, where there are several."));
  }
  return all;
}

JsonValue responses(const RoutePattern& route, const Operation& operation) {
  JsonValue ok_content = content(operation.media, operation.answer);
  if (!operation.stream.empty()) {
    // What goes wrong behind the head is told by an event.
    const JsonValue event =
        JsonObject{{"anyOf", JsonArray{reference(operation.stream), reference("Error")}}};
    ok_content.set("text/event-stream", JsonObject{{"schema", event}});
  }
  if (route.kind == RouteKind::kInvocation) {
    constexpr std::pair<LmiFraming, std::string_view> kOthers[] = {
        {LmiFraming::kJsonLines, "InvocationRecord"},
        {LmiFraming::kSse, "InvocationEvent"},
        {LmiFraming::kNone, "InvocationText"}};
    for (const auto& [framing, schema] : kOthers) {
      ok_content.set(lmi_content_type(framing), JsonObject{{"schema", reference(schema)}});
    }
  }
  JsonValue all = JsonObject{
      {"200", JsonObject{{"description", "The answer."}, {"content", std::move(ok_content)}}}};
  const bool djl = route.dialect == Dialect::kLmi;
  const bool health = route.kind == RouteKind::kPing || route.kind == RouteKind::kLive ||
                      route.kind == RouteKind::kReady;
  for (const int status : error_statuses(operation)) {
    // What no route answers (a head that is no request) is told in the OpenAI form everywhere.
    const bool own = health && (status == 500 || status == 503);
    JsonValue schema =
        own ? reference("Any")
        : djl
            ? JsonValue(JsonObject{{"anyOf", JsonArray{reference("DjlError"), reference("Error")}}})
            : reference("Error");
    all.set(std::to_string(status),
            JsonObject{{"description", own ? "Not healthy." : "An error."},
                       {"content", JsonObject{{"application/json",
                                               JsonObject{{"schema", std::move(schema)}}}}}});
  }
  return all;
}

JsonValue operation_json(const RoutePattern& route) {
  const Operation& operation = operation_of(route.kind);
  JsonValue json = JsonObject{{"summary", std::string(operation.summary)}};
  JsonArray wanted = parameters(route);
  if (!wanted.empty()) json.set("parameters", std::move(wanted));
  if (!operation.request.empty()) {
    json.set("requestBody",
             JsonObject{{"required", true},
                        {"content", content("application/json", operation.request)}});
  }
  json.set("responses", responses(route, operation));
  return json;
}

JsonValue security_schemes() {
  const auto key = [](const char* header) {
    return JsonObject{{"type", "apiKey"}, {"in", "header"}, {"name", header}};
  };
  return JsonObject{{"bearer", JsonObject{{"type", "http"}, {"scheme", "bearer"}}},
                    {"x-api-key", key("x-api-key")},
                    {"api-key", key("api-key")}};
}

JsonValue openapi() {
  JsonValue paths = JsonObject{};
  for (const RoutePattern& route : route_patterns()) {
    JsonValue methods = JsonObject{};
    methods.set(route.method == "POST" ? "post" : "get", operation_json(route));
    paths.set(route.pattern, std::move(methods));
  }
  const JsonValue no_scopes = JsonArray{};
  return JsonObject{{"openapi", "3.1.0"},
                    {"info", JsonObject{{"title", "Tidemill"}, {"version", TIDEMILL_VERSION}}},
                    {"security", JsonArray{JsonObject{}, JsonObject{{"bearer", no_scopes}},
                                           JsonObject{{"x-api-key", no_scopes}},
                                           JsonObject{{"api-key", no_scopes}}}},
                    {"paths", std::move(paths)},
                    {"components", JsonObject{{"schemas", component_schemas()},
                                              {"securitySchemes", security_schemes()}}}};
}

}  // namespace

std::string openapi_json() {
  static const std::string document = to_json(openapi());  // a constant, too long to build often
  return document;
}

std::string api_page() {
  std::string page =
      "# API\n\n"
      "Printed by `tidemill inspect --print-api`; do not edit. `GET /openapi.json` says the same "
      "to programs.\n\n"
      "`null` means that a field is not given. An integer may be spelled `5` or `5.0`. Fields that "
      "stand in no table are ignored, counted and named in the header `x-ignored-parameters`; "
      "with `strict_parameters` they are refused.\n\n"
      "## Routes\n\n| route | method | takes | answers | errors |\n|---|---|---|---|---|\n";
  for (const RoutePattern& route : route_patterns()) {
    const Operation& operation = operation_of(route.kind);
    std::string more;
    for (const int status : operation.statuses) more += format("{} ", status);
    if (!more.empty()) more.pop_back();
    page += format("| `{}` | {} | {} | {} | {} |\n", route.pattern, route.method, taken(operation),
                   operation.summary, more);
  }
  page += "\nAny request may meet";
  for (const int status : kEverywhere) page += format(" {}", status);
  return page + ".\n" + fields_page();
}

}  // namespace tidemill
