// The members of `parameters` on LMI's routes (serving-contract.md 4.3, the column of today's
// vLLM), as fields of a generation: each has a meaning here, or is refused with the way out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "api/fields.h"
#include "api/lmi_format.h"
#include "api/schema.h"

namespace tidemill {

// The names that errors of the request's own checks use.
FieldNames lmi_names(const Fields& parameters);
void read_lmi_parameters(Fields& parameters, LmiShape& shape, GenerationFields& out);
// Gives a field that the checks call by its common name its place in the body.
Error inside_parameters(Error error);

// An id and what is added to its logit, for each.
std::vector<std::pair<int64_t, double>> read_lmi_logit_bias(Fields& fields);

// Which framing a body asks for. A name wins over `stream`: the request's, or else the operator's.
struct LmiFormatter {
  LmiFraming framing = LmiFraming::kJson;
  bool asked = false;                  // the request names one that there is
  bool chat = false;                   // and it ends in _chat
  std::optional<std::string> unknown;  // a name that nobody knows: as if it were absent
};
LmiFormatter read_lmi_formatter(Fields& parameters, const ModelFacts& facts, bool stream);

}  // namespace tidemill
