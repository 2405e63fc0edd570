// GET /openapi.json, and the reference page docs/reference/api.md: every route that there is, with
// what it takes, what it answers and every status that can occur.
#pragma once

#include <string>

namespace tidemill {

// OpenAPI 3.1; the same for every request.
std::string openapi_json();

// Markdown.
std::string api_page();

}  // namespace tidemill
