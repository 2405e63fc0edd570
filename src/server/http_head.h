// The head of an HTTP request, held to the letter: what parsers disagree on (both lengths, folded
// fields, bare line ends, odd transfer codings) is how requests are smuggled past proxies, so it is
// refused here, before the HTTP library sees a byte (robustness.md H-1, H-5, H-8).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace tidemill {

struct HttpHead {
  std::string method;
  std::string target;
  int minor_version = 1;                                    // HTTP/1.0 or HTTP/1.1
  std::vector<std::pair<std::string, std::string>> fields;  // names in lower case
  std::optional<uint64_t> content_length;
  bool chunked = false;
  bool keep_alive = true;
  bool expects_continue = false;

  // The first value of that name (lower case); empty when there is none.
  std::string_view field(std::string_view name) const;
};

// Why a head is refused.
struct HeadProblem {
  int status = 400;
  std::string_view reason;
};

// Bytes, but for the number of fields. The whole head is the reader's to bound: it stops reading.
struct HeadLimits {
  int64_t request_line = 8 << 10;
  int64_t num_fields = 100;
  int64_t field = 16 << 10;
};

// `head` ends behind the empty line.
std::variant<HttpHead, HeadProblem> parse_head(std::string_view head, const HeadLimits& limits);

// What the first bytes of a connection give away before a head is complete: a TLS hello or an
// HTTP/2 preface.
bool is_other_protocol(std::string_view begin);

// A line feed without its carriage return: such a head would never find its end.
bool has_bare_line_feed(std::string_view text);

}  // namespace tidemill
