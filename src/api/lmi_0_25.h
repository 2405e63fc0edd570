// The answers of LMI 0.25.0, byte for byte and chunk for chunk (serving-contract.md 5.1 to 5.5):
// always 200, always streamed, one event per token, events grouped into chunks of HTTP, errors
// behind what was sent. For clients that must not notice the move (option.lmi_compat).
#pragma once

#include <memory>
#include <string>

#include "api/schema.h"

namespace tidemill {

// option.output_formatter decides, nothing of the request. Empty for `none`: no header is sent.
std::string lmi_0_25_content_type(const ModelFacts& facts);

// A request with one input.
std::unique_ptr<ResponseFormat> make_lmi_0_25_format(const ModelFacts& facts,
                                                     bool skip_special_tokens);

// Is this one of the errors that end an answer of status 200?
bool lmi_0_25_tells_behind_200(const Error& error);
// The bytes that tell of it.
std::string lmi_0_25_error(const Error& error);

}  // namespace tidemill
