// A chat on LMI's routes (serving-contract.md 4.6, 5.12): parameters at the top level, answers that
// look like OpenAI's, with LMI's names of endings and LMI's framing.
#pragma once

#include "api/schema.h"

namespace tidemill {

Result<ApiCall> parse_lmi_chat(const JsonValue& body, const ModelFacts& facts,
                               const RequestContext& context);

}  // namespace tidemill
