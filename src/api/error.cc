#include "api/error.h"

#include "base/check.h"

namespace tidemill {
namespace {

// One kind of error in every dialect.
struct Row {
  ErrorKind kind;
  std::string_view slug;
  int openai_status;
  int lmi_status;
  std::string_view lmi_type;  // the original's class names
  bool retryable;
};

// apis.md 3; serving-contract.md 2.8; robustness.md 2.
constexpr Row kRows[] = {
    {ErrorKind::kInvalidJson, "invalid_json", 400, 424, "BadRequestException", false},
    {ErrorKind::kInvalidParameter, "invalid_parameter", 400, 424, "BadRequestException", false},
    {ErrorKind::kMissingParameter, "missing_parameter", 400, 424, "BadRequestException", false},
    {ErrorKind::kUnknownParameter, "unknown_parameter", 400, 424, "BadRequestException", false},
    {ErrorKind::kUnsupportedParameter, "unsupported_parameter", 400, 424, "BadRequestException",
     false},
    {ErrorKind::kUnsupportedContent, "unsupported_content", 400, 424, "BadRequestException", false},
    {ErrorKind::kEmptyPrompt, "empty_prompt", 400, 424, "BadRequestException", false},
    {ErrorKind::kPromptTooLong, "prompt_too_long", 400, 424, "BadRequestException", false},
    {ErrorKind::kTemplateError, "template_error", 400, 424, "TranslateException", false},
    {ErrorKind::kUnauthorized, "invalid_api_key", 401, 401, "UnauthorizedException", false},
    {ErrorKind::kModelNotFound, "model_not_found", 404, 404, "ModelNotFoundException", false},
    {ErrorKind::kNotFound, "not_found", 404, 404, "ResourceNotFoundException", false},
    {ErrorKind::kMethodNotAllowed, "method_not_allowed", 405, 405, "MethodNotAllowedException",
     false},
    {ErrorKind::kBodyTooLarge, "body_too_large", 413, 413, "BadRequestException", false},
    {ErrorKind::kUnsupportedMediaType, "unsupported_media_type", 415, 415, "BadRequestException",
     false},
    {ErrorKind::kQueueFull, "queue_full", 429, 503, "WlmCapacityException", true},
    {ErrorKind::kDraining, "draining", 503, 503, "WlmShutdownException", true},
    {ErrorKind::kModelLoading, "model_loading", 503, 503, "WlmException", true},
    {ErrorKind::kModelFailed, "model_failed", 503, 503, "WlmException", false},
    {ErrorKind::kDeadline, "deadline", 503, 503, "TranslateException", false},
    {ErrorKind::kOutOfMemory, "out_of_memory", 500, 424, "TranslateException", true},
    {ErrorKind::kEngineError, "engine_error", 500, 424, "TranslateException", true},
    {ErrorKind::kNumericalError, "numerical_error", 500, 424, "TranslateException", false},
    {ErrorKind::kInternal, "internal", 500, 500, "InternalServerException", true},
};

// Requests that are none, or that do not come; and those that there is no memory to read.
struct HttpRow {
  int status;
  std::string_view slug;
  std::string_view lmi_type = "BadRequestException";
  bool retryable = false;
};
constexpr HttpRow kHttpRows[] = {
    {400, "malformed_request"},
    {408, "request_timeout"},
    {414, "target_too_long"},
    {431, "header_fields_too_large"},
    {501, "not_implemented"},
    {505, "version_not_supported"},
    {503, "overloaded", "WlmCapacityException", true},
};

const Row& row_of(ErrorKind kind) {
  for (const Row& row : kRows) {
    if (row.kind == kind) return row;
  }
  CHECK(false, "error kind {} has no row", static_cast<int>(kind));
}

const HttpRow& http_row_of(int status) {
  for (const HttpRow& row : kHttpRows) {
    if (row.status == status) return row;
  }
  CHECK(false, "status {} has no row", status);
}

std::string_view openai_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 429:
      return "rate_limit_error";
    default:
      return status >= 500 ? "server_error" : "invalid_request_error";
  }
}

// An error as it is printed.
struct Printed {
  int status;
  std::string_view slug;
  std::string_view lmi_type;
  std::string_view field;
  std::string_view message;
};

std::string openai_body(const Printed& error) {
  std::string body;
  JsonWriter out(&body);
  out.begin_object().key("error").begin_object();
  out.key("message").value(error.message).key("type").value(openai_type(error.status));
  out.key("param");
  error.field.empty() ? out.null() : out.value(error.field);
  out.key("code").value(error.slug);
  out.end_object().end_object();
  return body;
}

// Pretty, two blanks deep, with a newline at the end: the original's form.
// 0.25.0 has its first three members.
std::string lmi_body(const Printed& error, std::string_view request_id, const LmiOptions& lmi) {
  std::string body = format("{{\n  \"code\": {}", error.status);
  const auto add = [&body](std::string_view name, std::string_view value) {
    body += format(",\n  \"{}\": ", name);
    append_html_safe_string(&body, value);
  };
  add("type", error.lmi_type);
  add("message", error.message);
  if (lmi.as_0_25()) return body + "\n}\n";
  add("error", error.message);
  add("reason", error.slug);
  if (!error.field.empty()) add("param", error.field);
  add("request_id", request_id);
  return body + "\n}\n";
}

// The status on LMI's routes that the operator may have chosen for this kind.
int lmi_status(const Row& row, RefusedBy by, const LmiErrorCodes& codes) {
  switch (row.kind) {
    case ErrorKind::kQueueFull:
      return codes.queue_full;
    case ErrorKind::kDraining:
    case ErrorKind::kModelLoading:
    case ErrorKind::kModelFailed:
      return codes.not_ready;
    case ErrorKind::kDeadline:
      return codes.timeout;
    case ErrorKind::kInternal:
      return codes.server_error;
    default:
      break;
  }
  if (row.openai_status != 400) return row.lmi_status;
  if (codes.bad_request != 0) return codes.bad_request;
  return by == RefusedBy::kFront ? row.openai_status : row.lmi_status;
}

}  // namespace

void append_html_safe_string(std::string* out, std::string_view text) {
  std::string plain;
  append_json_string(&plain, text);
  for (const char c : plain) {
    if (std::string_view("<>&='").find(c) == std::string_view::npos) {
      *out += c;
    } else {
      *out += format("\\u{:04x}", static_cast<unsigned char>(c));
    }
  }
}

std::string_view error_slug(ErrorKind kind) { return row_of(kind).slug; }

std::vector<std::string_view> error_slugs() {
  std::vector<std::string_view> slugs;
  for (const Row& row : kRows) slugs.push_back(row.slug);
  for (const HttpRow& row : kHttpRows) slugs.push_back(row.slug);
  return slugs;
}

ErrorAnswer error_answer(const Error& error, Dialect dialect, std::string_view request_id,
                         RefusedBy by, const LmiOptions& options) {
  const Row& row = row_of(error.kind);
  const bool lmi = dialect == Dialect::kLmi;
  const bool too_long = row.kind == ErrorKind::kPromptTooLong && !lmi;
  const Printed printed{.status = lmi ? lmi_status(row, by, options.codes) : row.openai_status,
                        .slug = too_long ? "context_length_exceeded" : row.slug,
                        .lmi_type = row.lmi_type,
                        .field = error.field,
                        .message = error.message};
  return {.status = printed.status,
          .body = lmi ? lmi_body(printed, request_id, options) : openai_body(printed),
          .slug = row.slug,
          .retryable = row.retryable};
}

std::string_view http_error_slug(int status) { return http_row_of(status).slug; }

ErrorAnswer http_error_answer(int status, std::string_view message, Dialect dialect,
                              std::string_view request_id, const LmiOptions& options) {
  const HttpRow& row = http_row_of(status);
  const bool lmi = dialect == Dialect::kLmi;
  const Printed printed{.status = lmi && status == 503 ? options.codes.queue_full : status,
                        .slug = row.slug,
                        .lmi_type = row.lmi_type,
                        .field = "",
                        .message = message};
  return {.status = printed.status,
          .body = lmi ? lmi_body(printed, request_id, options) : openai_body(printed),
          .slug = row.slug,
          .retryable = row.retryable};
}

}  // namespace tidemill
