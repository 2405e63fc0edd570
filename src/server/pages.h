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

// An error in its dialect, with Retry-After, x-should-retry and what else belongs to it.
Answer answer_error(const Error& error, Dialect dialect, std::string_view request_id);

// The headers that the original puts on each of its routes.
void add_lmi_headers(HeaderList& headers);

}  // namespace tidemill
