// Bodies: wherever the bytes are cut, the body, its end and its refusal are the same; a body is
// never larger than its limit; and chunks are what a plain reading of RFC 9112 says they are.
#include "base/fuzz_target.h"
#include "server/http_body.h"

namespace tidemill {
namespace {

constexpr int64_t kMaxBytes = 512;

struct Outcome {
  HttpBody::State state = HttpBody::State::kMore;
  size_t taken = 0;
  std::string body = {};
};

// The bytes up to each of `cuts` arrive together; what is not taken is given again with more.
Outcome read(const HttpHead& head, std::string_view bytes, const std::vector<size_t>& cuts) {
  HttpBody body(head, kMaxBytes);
  Outcome outcome;
  for (const size_t cut : cuts) {
    if (body.state() != HttpBody::State::kMore) break;
    const std::string_view given = bytes.substr(outcome.taken, cut - outcome.taken);
    const size_t used = body.put(given);
    CHECK(used <= given.size(), "{} bytes of {}", used, given.size());
    outcome.taken += used;
  }
  outcome.state = body.state();
  if (outcome.state == HttpBody::State::kDone) outcome.body = body.take();
  return outcome;
}

void check_same(const Outcome& whole, const Outcome& cut, size_t at) {
  CHECK(whole.state == cut.state, "cut at {}: state {} instead of {}", at,
        static_cast<int>(cut.state), static_cast<int>(whole.state));
  if (whole.state != HttpBody::State::kDone) return;
  CHECK(whole.taken == cut.taken && whole.body == cut.body, "cut at {}: another body", at);
}

// Chunks without extensions and trailers, by the letter. False: something else, no opinion.
bool read_plain_chunks(std::string_view bytes, std::string* body) {
  while (true) {
    const size_t end = bytes.find("\r\n");
    if (end == std::string_view::npos || end == 0 || end > 4) return false;
    size_t size = 0;
    for (const char c : bytes.substr(0, end)) {
      const size_t digit = std::string_view("0123456789abcdef").find(c);
      if (digit == std::string_view::npos) return false;
      size = size * 16 + digit;
    }
    bytes.remove_prefix(end + 2);
    if (size == 0) return bytes.starts_with("\r\n");
    if (bytes.size() < size + 2 || bytes.substr(size, 2) != "\r\n") return false;
    *body += bytes.substr(0, size);
    bytes.remove_prefix(size + 2);
  }
}

}  // namespace

void fuzz_one(std::string_view input) {
  FuzzInput in(input);
  HttpHead head;
  const uint8_t kind = in.byte();
  if (kind % 4 == 0) {
    head.content_length = in.byte();
  } else {
    head.chunked = true;
  }
  const std::string_view bytes = in.rest();
  const Outcome whole = read(head, bytes, {bytes.size()});
  CHECK(whole.body.size() <= kMaxBytes, "a body of {} bytes", whole.body.size());
  std::string plain;
  if (head.chunked && read_plain_chunks(bytes, &plain)) {
    const bool fits = plain.size() <= kMaxBytes;
    CHECK(whole.state == (fits ? HttpBody::State::kDone : HttpBody::State::kTooLarge),
          "plain chunks end in state {}", static_cast<int>(whole.state));
    CHECK(!fits || whole.body == plain, "another body than the chunks hold");
  }
  const size_t stride = bytes.size() / 64 + 1;
  for (size_t at = 0; at < bytes.size(); at += stride) {
    check_same(whole, read(head, bytes, {at, bytes.size()}), at);
  }
  std::vector<size_t> every;
  for (size_t at = 1; at <= bytes.size(); ++at) every.push_back(at);
  check_same(whole, read(head, bytes, every), 1);
}

std::vector<std::string> fuzz_seeds() {
  return {"\x04\x05hello",
          "\x04\x05hell",
          std::string("\x04\x00", 2),
          "\x01"
          "5\r\nhello\r\n0\r\n\r\n",
          "\x01"
          "5;name=value\r\nhello\r\n1f\r\n0123456789012345678901234567890\r\n0\r\n\r\nGET /",
          "\x01"
          "5\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
          "\x01"
          "FFFFFFFFFFFFFFFF\r\n",
          "\x01"
          "3ff\r\n" +
              std::string(1023, 'x') + "\r\n0\r\n\r\n",
          "\x01"
          "-1\r\n",
          "\x01"
          "5 \r\nhello\r\n",
          "\x01"
          "5\nhello\n0\n\n"};
}

}  // namespace tidemill
