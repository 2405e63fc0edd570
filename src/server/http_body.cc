#include "server/http_body.h"

#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>

#include "base/check.h"

namespace tidemill {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using Error_code = boost::system::error_code;

constexpr size_t kMaxChunks = 65536;
constexpr size_t kMaxChunkExtension = 256;
// The parser takes the line of a chunk, or the trailers, in one piece or not at all. It never sees
// more than this at once, so what is longer is never taken, and is refused.
constexpr size_t kMaxPiece = 8 << 10;

// The head has been read by parse_head(); the library is told what it says of the body, and nothing
// that it could read otherwise.
std::string framing_head(const HttpHead& head) {
  std::string text = "POST / HTTP/1.1\r\nHost: h\r\n";
  if (head.chunked) text += "Transfer-Encoding: chunked\r\n";
  if (head.content_length) text += format("Content-Length: {}\r\n", *head.content_length);
  return text + "\r\n";
}

}  // namespace

struct HttpBody::Parser {
  explicit Parser(int64_t max_bytes) {
    http.eager(true);
    http.body_limit(static_cast<uint64_t>(max_bytes));
    on_chunk = [this](uint64_t, beast::string_view extensions, Error_code& error) {
      if (++num_chunks > kMaxChunks || extensions.size() > kMaxChunkExtension) {
        error = http::error::bad_chunk_extension;
      }
    };
    http.on_chunk_header(on_chunk);
  }

  size_t put(std::string_view bytes) {
    Error_code error;
    const size_t used = http.put(asio::buffer(bytes.data(), bytes.size()), error);
    if (error == http::error::body_limit) {
      state = State::kTooLarge;
    } else if (error && error != http::error::need_more) {
      state = State::kMalformed;
    } else if (http.is_done()) {
      state = State::kDone;
    }
    return used;
  }

  http::request_parser<http::string_body> http;
  std::function<void(uint64_t, beast::string_view, Error_code&)> on_chunk;  // kept by reference
  size_t num_chunks = 0;
  State state = State::kMore;
};

HttpBody::HttpBody(const HttpHead& head, int64_t max_bytes)
    : parser_(std::make_unique<Parser>(max_bytes)) {
  parser_->put(framing_head(head));
}

HttpBody::~HttpBody() = default;

HttpBody::State HttpBody::state() const { return parser_->state; }

size_t HttpBody::put(std::string_view bytes) {
  size_t taken = 0;
  while (parser_->state == State::kMore && taken < bytes.size()) {
    const std::string_view piece = bytes.substr(taken, kMaxPiece);
    const size_t used = parser_->put(piece);
    taken += used;
    if (used > 0 || parser_->state != State::kMore) continue;
    if (piece.size() == kMaxPiece) parser_->state = State::kMalformed;
    break;
  }
  return taken;
}

std::string HttpBody::take() { return std::move(parser_->http.get().body()); }

}  // namespace tidemill
