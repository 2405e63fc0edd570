// The one place that turns a kind of error into an HTTP status, a slug and a body.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "api/schema.h"
#include "base/result.h"

namespace tidemill {

struct ErrorAnswer {
  int status = 500;
  std::string body;        // complete JSON
  std::string_view slug;   // the same in every dialect: log and metrics use it
  bool retryable = false;  // Retry-After on 429 and 503; x-should-retry
};

ErrorAnswer error_answer(const Error& error, Dialect dialect, std::string_view request_id);
std::string_view error_slug(ErrorKind kind);

}  // namespace tidemill
