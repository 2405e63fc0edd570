// The members of `parameters` on LMI's routes, as fields of a generation. What each may be, and
// which are refused, say the tables of lmi_fields.cc.
#pragma once

#include <optional>
#include <string>

#include "api/fields.h"
#include "api/lmi_format.h"
#include "api/schema.h"

namespace tidemill {

// The names that errors of the request's own checks use.
FieldNames lmi_names(const Fields& parameters);
// What they have in common with the top level of a chat, and no other table has with these
// defaults: top_k, top_p, min_p and repetition_penalty.
void read_lmi_filters(Fields& fields, GenerationFields& out);
void read_lmi_parameters(Fields& parameters, LmiShape& shape, GenerationFields& out);
// Gives a field that the checks call by its common name its place in the body.
Error inside_parameters(Error error);

// Which framing a body asks for. A name wins over `stream`: the request's, or else the operator's.
struct LmiFormatter {
  LmiFraming framing = LmiFraming::kJson;
  bool asked = false;                  // the request names one that there is
  bool chat = false;                   // and it ends in _chat
  std::optional<std::string> unknown;  // a name that nobody knows: as if it were absent
};
LmiFormatter read_lmi_formatter(Fields& parameters, const ModelFacts& facts, bool stream);

}  // namespace tidemill
