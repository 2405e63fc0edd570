// The body of an HTTP request, whole or in chunks, as its bytes arrive. Everything that a client
// may stretch has a bound: bytes, chunks, the line in front of a chunk, trailers (robustness.md
// H-3, H-4). No sockets: bytes in, body out. The library's parser is inside.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "server/http_head.h"

namespace tidemill {

class HttpBody {
 public:
  // The body that `head` announces, of at most that many bytes.
  HttpBody(const HttpHead& head, int64_t max_bytes);
  ~HttpBody();
  HttpBody(const HttpBody&) = delete;
  HttpBody& operator=(const HttpBody&) = delete;

  // kMore: the bytes given were not enough; those that put() did not take are given again, with
  // more behind them.
  enum class State { kMore, kDone, kTooLarge, kMalformed };
  State state() const;

  // How many of `bytes` it took.
  size_t put(std::string_view bytes);

  std::string take();  // once, when done

 private:
  struct Parser;
  std::unique_ptr<Parser> parser_;
};

}  // namespace tidemill
