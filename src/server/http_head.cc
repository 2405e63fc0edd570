#include "server/http_head.h"

#include <algorithm>
#include <charconv>

#include "base/ascii.h"

namespace tidemill {
namespace {

constexpr std::string_view kEnd = "\r\n";

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) != 0 ||
           std::string_view("!#$%&'*+-.^_`|~").find(static_cast<char>(c)) != std::string_view::npos;
  });
}

bool has_control_bytes(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

using Problem = std::optional<HeadProblem>;

Problem parse_request_line(std::string_view line, HttpHead& head) {
  const size_t first = line.find(' ');
  const size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == last) return HeadProblem{400, "request line"};
  head.method = line.substr(0, first);
  head.target = line.substr(first + 1, last - first - 1);
  const std::string_view version = line.substr(last + 1);
  if (!is_token(head.method)) return HeadProblem{400, "method"};
  const bool odd_target = head.target.empty() || has_control_bytes(head.target) ||
                          head.target.find_first_of(" \t") != std::string::npos ||
                          (head.target.front() != '/' && head.target != "*");
  if (odd_target) return HeadProblem{400, "request target"};
  if (version == "HTTP/1.1" || version == "HTTP/1.0") {
    head.minor_version = version.back() - '0';
    return std::nullopt;
  }
  if (version.starts_with("HTTP/")) return HeadProblem{505, "HTTP version"};
  return HeadProblem{400, "request line"};
}

Problem parse_field(std::string_view line, HttpHead& head) {
  if (line.front() == ' ' || line.front() == '\t') return HeadProblem{400, "folded field"};
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos || !is_token(line.substr(0, colon))) {
    return HeadProblem{400, "field name"};
  }
  const std::string_view value = without_blanks(line.substr(colon + 1));
  if (has_control_bytes(value)) return HeadProblem{400, "field value"};
  head.fields.emplace_back(ascii_lower(line.substr(0, colon)), value);
  return std::nullopt;
}

size_t count(const HttpHead& head, std::string_view name) {
  return static_cast<size_t>(std::count_if(head.fields.begin(), head.fields.end(),
                                           [&](const auto& field) { return field.first == name; }));
}

// Exactly one of: no body, a length in plain digits, chunked.
Problem read_framing(HttpHead& head) {
  const size_t lengths = count(head, "content-length");
  const size_t codings = count(head, "transfer-encoding");
  if (lengths > 1 || codings > 1 || (lengths > 0 && codings > 0)) {
    return HeadProblem{400, "more than one body length"};
  }
  if (codings == 1) {
    if (ascii_lower(head.field("transfer-encoding")) != "chunked") {
      return HeadProblem{501, "transfer coding"};
    }
    if (head.minor_version == 0) return HeadProblem{400, "chunked in HTTP/1.0"};
    head.chunked = true;
  }
  if (lengths == 1) {
    const std::string_view digits = head.field("content-length");
    const bool plain = !digits.empty() && digits.size() <= 18 &&
                       std::all_of(digits.begin(), digits.end(),
                                   [](unsigned char c) { return std::isdigit(c) != 0; });
    if (!plain) return HeadProblem{400, "content length"};
    uint64_t value = 0;
    std::from_chars(digits.data(), digits.data() + digits.size(), value);
    head.content_length = value;
  }
  return std::nullopt;
}

void read_connection(HttpHead& head) {
  const std::string connection = ascii_lower(head.field("connection"));
  head.keep_alive = head.minor_version == 1 ? connection.find("close") == std::string::npos
                                            : connection.find("keep-alive") != std::string::npos;
  head.expects_continue =
      head.minor_version == 1 && ascii_lower(head.field("expect")) == "100-continue";
}

}  // namespace

std::string_view HttpHead::field(std::string_view name) const {
  for (const auto& [key, value] : fields) {
    if (key == name) return value;
  }
  return {};
}

std::variant<HttpHead, HeadProblem> parse_head(std::string_view text, const HeadLimits& limits) {
  HttpHead head;
  bool first = true;
  while (!text.empty()) {
    const size_t end = text.find(kEnd);
    if (end == std::string_view::npos) return HeadProblem{400, "line end"};
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + kEnd.size());
    if (line.find_first_of("\r\n") != std::string_view::npos) return HeadProblem{400, "line end"};
    if (line.empty() && !first) break;
    Problem problem;
    if (first) {
      if (line.size() > static_cast<size_t>(limits.request_line))
        return HeadProblem{414, "request line"};
      problem = parse_request_line(line, head);
      first = false;
    } else {
      if (line.size() > static_cast<size_t>(limits.field))
        return HeadProblem{431, "field too long"};
      if (head.fields.size() == static_cast<size_t>(limits.num_fields))
        return HeadProblem{431, "too many fields"};
      problem = parse_field(line, head);
    }
    if (problem) return *problem;
  }
  if (Problem problem = read_framing(head)) return *problem;
  if (head.minor_version == 1 && count(head, "host") != 1) return HeadProblem{400, "host"};
  read_connection(head);
  return head;
}

bool has_bare_line_feed(std::string_view text) {
  for (size_t at = text.find('\n'); at != std::string_view::npos; at = text.find('\n', at + 1)) {
    if (at == 0 || text[at - 1] != '\r') return true;
  }
  return false;
}

bool is_other_protocol(std::string_view begin) {
  constexpr std::string_view kPreface = "PRI * HTTP/2.0";
  return begin.starts_with('\x16') ||
         (begin.size() >= 3 && kPreface.starts_with(begin.substr(0, kPreface.size())));
}

}  // namespace tidemill
