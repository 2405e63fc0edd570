// The routes that need no model to compute: health, lists, and errors. Pure: values in, answer out.
#pragma once

#include <string>
#include <string_view>

#include "api/error.h"
#include "server/exchange.h"
#include "server/model_registry.h"
#include "server/routes.h"

namespace tidemill {

struct Answer {
  AnswerHead head;
  std::string body;
};

// A route's answer when it takes no text pool: everything but generation.
Answer answer_page(const Route& route, const ModelRegistry& models, bool draining);

struct ErrorContext {
  Dialect dialect = Dialect::kPlain;
  std::string_view request_id;
  RefusedBy by = RefusedBy::kModel;
  int64_t retry_after_seconds = 1;  // where a retry helps
  LmiOptions lmi;
};

// An error in its dialect, with Retry-After, x-should-retry and what else belongs to it.
Answer answer_error(const Error& error, const ErrorContext& context);

// The same for what only HTTP can get wrong: http_error_answer of api/error.h.
Answer answer_http_error(int status, std::string_view message, Dialect dialect,
                         std::string_view request_id, const LmiOptions& lmi = {});

// The headers that the original puts on each of its routes.
void add_lmi_headers(HeaderList& headers);

}  // namespace tidemill
