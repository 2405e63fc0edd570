// What generate and chat share: their flags as fields of a request.
#pragma once

#include <string_view>

#include "base/json.h"
#include "executor/generation_request.h"
#include "settings/options.h"

namespace tidemill {

// Without prompts. Throws std::runtime_error when the seed is no number.
GenerationFields generation_fields(const VerbArguments& arguments);

JsonValue chat_message(std::string_view role, std::string_view content);

}  // namespace tidemill
