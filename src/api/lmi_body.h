// What a body on LMI's routes says, whatever form it has (serving-contract.md 2.4, 4.2): it becomes
// the JSON object that parse_lmi_invocation() reads.
//
//   nothing, application/json   JSON
//   text/plain                  {"inputs": [BODY]}
//   text/csv                    {"inputs": [the cells of the column "inputs"]}
//   forms, query parameters     the part "data", in the form that its own type says; else the parts
//                               "inputs", "parameters" and "stream"; else the first part is inputs
//
// Images, audio and tensors are refused by name.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace tidemill {

// A named piece of a request: a field of a form, or a query parameter.
struct ContentPart {
  std::string name;
  std::string value;
  std::string content_type;  // empty: not said
};

// Does a part of that name say which model is meant, and nothing about the text?
bool chooses_model(std::string_view name);

// A body of that type that has no parts. A table has at most 1024 rows and 64 columns.
Result<JsonValue> read_lmi_body(std::string_view content_type, std::string_view body,
                                const JsonLimits& limits = {});
Result<JsonValue> read_lmi_parts(std::span<const ContentPart> parts, const JsonLimits& limits = {});

}  // namespace tidemill
