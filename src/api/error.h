// The one place that turns a kind of error into an HTTP status, a slug and a body.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "api/lmi_options.h"
#include "api/schema.h"
#include "base/result.h"

namespace tidemill {

struct ErrorAnswer {
  int status = 500;
  std::string body;        // complete JSON
  std::string_view slug;   // the same in every dialect: log and metrics use it
  bool retryable = false;  // Retry-After on 429 and 503; x-should-retry
};

// Who refuses a bad request on LMI's routes: the front with 400, or the model's side with 424. The
// other dialects make no difference.
enum class RefusedBy { kFront, kModel };

ErrorAnswer error_answer(const Error& error, Dialect dialect, std::string_view request_id,
                         RefusedBy by = RefusedBy::kModel, const LmiOptions& lmi = {});
std::string_view error_slug(ErrorKind kind);

// What only HTTP can get wrong, by its status: 400, 408, 414, 431, 501, 505; and
// 503 for what there is no memory to read.
ErrorAnswer http_error_answer(int status, std::string_view message, Dialect dialect,
                              std::string_view request_id, const LmiOptions& lmi = {});

std::string_view http_error_slug(int status);

// A JSON string as Gson writes it: < > & = ' are spelled \u00xx, so that it is safe inside HTML.
void append_html_safe_string(std::string* out, std::string_view text);

// Every slug there is, once: a closed set for metrics.
std::vector<std::string_view> error_slugs();

}  // namespace tidemill
