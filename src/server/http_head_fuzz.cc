// Heads: one that is read can be written down and reads the same; no head has two body lengths; one
// that is refused has a status of HTTP's own.
#include "base/fuzz_target.h"
#include "server/http_head.h"

namespace tidemill {
namespace {

std::string spelled(const HttpHead& head) {
  std::string text = format("{} {} HTTP/1.{}\r\n", head.method, head.target, head.minor_version);
  for (const auto& [name, value] : head.fields) text += name + ": " + value + "\r\n";
  return text + "\r\n";
}

bool is_status_of_heads(int status) {
  return status == 400 || status == 414 || status == 431 || status == 501 || status == 505;
}

}  // namespace

void fuzz_one(std::string_view input) {
  is_other_protocol(input);
  has_bare_line_feed(input);
  const auto parsed = parse_head(input, {});
  if (const auto* problem = std::get_if<HeadProblem>(&parsed)) {
    CHECK(is_status_of_heads(problem->status) && !problem->reason.empty(), "{} {}", problem->status,
          problem->reason);
    return;
  }
  const auto& head = std::get<HttpHead>(parsed);
  CHECK(!(head.chunked && head.content_length), "a body with two lengths");
  const std::string text = spelled(head);
  CHECK(text.find('\0') == std::string::npos && !has_bare_line_feed(text), "a field holds a line");
  const auto again = parse_head(text, {});
  CHECK(again.index() == 0, "our own head is refused: {}", std::get<HeadProblem>(again).reason);
  const auto& same = std::get<HttpHead>(again);
  CHECK(same.method == head.method && same.target == head.target && same.fields == head.fields &&
            same.content_length == head.content_length && same.chunked == head.chunked &&
            same.keep_alive == head.keep_alive && same.expects_continue == head.expects_continue,
        "our own head reads differently");
}

std::vector<std::string> fuzz_seeds() {
  const std::string post = "POST /v1/completions HTTP/1.1\r\nHost: h\r\n";
  return {"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n",
          post + "Content-Length: 12\r\nExpect: 100-continue\r\n\r\n",
          post + "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
          post + "Transfer-Encoding: gzip, chunked\r\n\r\n",
          post + "Content-Length: 1\r\nContent-Length: 1\r\n\r\n",
          post + "Content-Length: +1\r\n folded\r\n\r\n",
          "GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
          "OPTIONS * HTTP/1.1\r\nhost: \t h \t\r\nX-A:\r\n\r\n",
          "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
          "\x16\x03\x01\x02"};
}

}  // namespace tidemill
