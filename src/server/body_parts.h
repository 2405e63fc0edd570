// A body that is a form, taken apart (serving-contract.md 2.4): application/x-www-form-urlencoded
// and multipart/form-data (RFC 7578), held to the letter. Pure: bytes in, parts out.
#pragma once

#include <string_view>
#include <vector>

#include "api/lmi_body.h"

namespace tidemill {

enum class BodyForm { kWhole, kForm, kMultipart };
BodyForm body_form(std::string_view content_type);

// At most 64 parts; a name has at most 256 bytes, the head of a part 4 KiB. kInvalidParameter says
// which of these, or what of the framing, is wrong.
Result<std::vector<ContentPart>> form_parts(std::string_view body);
Result<std::vector<ContentPart>> multipart_parts(std::string_view content_type,
                                                 std::string_view body);

}  // namespace tidemill
