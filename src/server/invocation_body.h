// A request on LMI's routes before its JSON is read: the parts that its query and its form carry,
// and the body, whatever form it has (serving-contract.md 2.4).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/body_parts.h"
#include "server/http_head.h"
#include "server/routes.h"

namespace tidemill {

class InvocationBody {
 public:
  // What the front refuses: a form that is none.
  static Result<InvocationBody> take(const Route& route, const HttpHead& head, std::string body);

  // The value of the first part of that name; empty when there is none.
  std::string_view part(std::string_view name) const;
  // What the model's side refuses: text and JSON that are none.
  Result<JsonValue> json(const JsonLimits& limits = {}) const;
  // Query parameters that neither choose a model nor are the text, for x-ignored-parameters.
  std::vector<std::string> ignored() const;

 private:
  std::string content_type_;
  std::string whole_;               // the body when it has no parts
  std::vector<ContentPart> parts_;  // of the query, then of the form
  size_t num_query_parts_ = 0;
  bool is_form_ = false;
};

}  // namespace tidemill
