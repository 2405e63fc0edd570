#include "server/body_parts.h"

#include <algorithm>
#include <optional>
#include <string>

#include "base/ascii.h"
#include "base/check.h"
#include "base/utf8.h"
#include "server/routes.h"

namespace tidemill {
namespace {

constexpr size_t kMaxParts = 64;
constexpr size_t kMaxNameBytes = 256;
constexpr size_t kMaxHeadBytes = 4096;
constexpr size_t kMaxBoundaryBytes = 70;  // RFC 2046

Error malformed(std::string_view form, std::string_view what) {
  return {.kind = ErrorKind::kInvalidParameter,
          .field = "",
          .message = format("the {} body {}.", form, what)};
}

// The parameter of a header's value: `boundary` of "multipart/form-data; boundary=x". A quoted one
// ends at its quote; a backslash takes the next byte as it is.
std::optional<std::string> parameter(std::string_view value, std::string_view name) {
  size_t at = value.find(';');
  while (at != std::string_view::npos && at < value.size()) {
    value.remove_prefix(at + 1);
    const size_t equals = value.find('=');
    if (equals == std::string_view::npos) return std::nullopt;
    const bool wanted = ascii_lower(without_blanks(value.substr(0, equals))) == name;
    value = without_blanks(value.substr(equals + 1));
    std::string text;
    if (value.starts_with('"')) {
      size_t i = 1;
      for (; i < value.size() && value[i] != '"'; ++i) {
        if (value[i] == '\\' && i + 1 < value.size()) ++i;
        text += value[i];
      }
      if (i >= value.size()) return std::nullopt;
      value.remove_prefix(i + 1);
      at = value.find(';');
    } else {
      at = value.find(';');
      text = without_blanks(value.substr(0, at));
    }
    if (wanted) return text;
  }
  return std::nullopt;
}

// The head of one part: its name and its type.
Result<ContentPart> read_head(std::string_view head) {
  ContentPart part;
  bool named = false;
  while (!head.empty()) {
    const std::string_view line = head.substr(0, head.find("\r\n"));
    head.remove_prefix(std::min(line.size() + 2, head.size()));
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return malformed("multipart", "has a head without colon");
    const std::string field = ascii_lower(line.substr(0, colon));
    const std::string_view value = without_blanks(line.substr(colon + 1));
    if (field == "content-type") part.content_type = value;
    if (field == "content-transfer-encoding" && ascii_lower(value) != "binary" &&
        ascii_lower(value) != "8bit" && ascii_lower(value) != "7bit") {
      return malformed("multipart", "has an encoded part; send it as it is");
    }
    if (field != "content-disposition") continue;
    auto name = parameter(value, "name");
    if (!name || !ascii_lower(value).starts_with("form-data")) break;
    part.name = std::move(*name);
    named = true;
  }
  if (!named) return malformed("multipart", "has a part without a name");
  return part;
}

std::optional<Error> too_much(std::string_view form, const std::vector<ContentPart>& parts) {
  if (parts.size() > kMaxParts) {
    return malformed(form, format("has more than {} parts", kMaxParts));
  }
  if (!parts.empty() && parts.back().name.size() > kMaxNameBytes) {
    return malformed(form, format("has a name of more than {} bytes", kMaxNameBytes));
  }
  return std::nullopt;
}

}  // namespace

BodyForm body_form(std::string_view content_type) {
  const std::string type =
      ascii_lower(without_blanks(content_type.substr(0, content_type.find(';'))));
  if (type == "application/x-www-form-urlencoded") return BodyForm::kForm;
  return type.starts_with("multipart/") ? BodyForm::kMultipart : BodyForm::kWhole;
}

Result<std::vector<ContentPart>> form_parts(std::string_view body) {
  const auto num_pairs = static_cast<size_t>(std::count(body.begin(), body.end(), '&')) + 1;
  if (num_pairs > kMaxParts) {
    return malformed("form", format("has more than {} fields", kMaxParts));
  }
  auto pairs = decode_pairs(body, PlusSign::kBlank);
  size_t spelled = 0;
  for (std::string_view left = body; !left.empty();) {
    const std::string_view item = left.substr(0, left.find('&'));
    left.remove_prefix(std::min(item.size() + 1, left.size()));
    ++spelled;
  }
  if (pairs.size() != spelled) {
    return malformed("form", "has a % that two hexadecimal digits do not follow, or one of %00");
  }
  std::vector<ContentPart> parts;
  for (auto& [name, value] : pairs) {
    parts.push_back({.name = std::move(name), .value = std::move(value), .content_type = ""});
    if (auto problem = too_much("form", parts)) return std::move(*problem);
  }
  return parts;
}

//   --BOUNDARY CRLF head CRLF CRLF value CRLF --BOUNDARY ... CRLF --BOUNDARY--
Result<std::vector<ContentPart>> multipart_parts(std::string_view content_type,
                                                 std::string_view body) {
  if (!ascii_lower(content_type).starts_with("multipart/form-data")) {
    return malformed("multipart", "is no multipart/form-data");
  }
  const auto boundary = parameter(content_type, "boundary");
  if (!boundary || boundary->empty() || boundary->size() > kMaxBoundaryBytes) {
    return malformed("multipart", "has a content type without a boundary of 1 to 70 bytes");
  }
  const std::string first = "--" + *boundary, between = "\r\n--" + *boundary;
  if (!body.starts_with(first)) return malformed("multipart", "does not begin with its boundary");
  body.remove_prefix(first.size());
  std::vector<ContentPart> parts;
  while (!body.starts_with("--")) {
    if (!body.starts_with("\r\n")) return malformed("multipart", "has a boundary without line end");
    body.remove_prefix(2);
    const size_t head_end = body.find("\r\n\r\n");
    if (head_end == std::string_view::npos || head_end > kMaxHeadBytes) {
      return malformed("multipart",
                       format("has a part without a head of at most {} bytes", kMaxHeadBytes));
    }
    auto part = read_head(body.substr(0, head_end));
    if (!part) return part.error();
    body.remove_prefix(head_end + 4);
    const size_t end = body.find(between);
    if (end == std::string_view::npos) return malformed("multipart", "ends without its boundary");
    part->value = body.substr(0, end);
    body.remove_prefix(end + between.size());
    parts.push_back(std::move(*part));
    if (auto problem = too_much("multipart", parts)) return std::move(*problem);
  }
  return parts;
}

}  // namespace tidemill
