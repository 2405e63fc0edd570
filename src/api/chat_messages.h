// Messages of a chat request, checked and brought into the form that templates read (apis.md 9).
#pragma once

#include "api/fields.h"
#include "api/schema.h"

namespace tidemill {

// Reads `messages` and everything that changes how they are rendered, for that model's template.
// Problems are kept in `fields`.
ChatPrompt read_chat_prompt(Fields& fields, const ModelFacts& facts);

}  // namespace tidemill
