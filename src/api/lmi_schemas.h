// What /openapi.json says of the answers that lmi_format.cc, lmi_chat.cc and lmi_0_25.cc write.
#pragma once

#include "base/json.h"

namespace tidemill {

// Members of `components.schemas`. One for each content type of lmi_content_type():
// InvocationAnswer is a whole document, InvocationRecord a line of JSON lines, InvocationEvent the
// data of one event, InvocationText all of a text.
JsonValue lmi_answer_schemas();

}  // namespace tidemill
