// The body of an HTTP request, whole or in chunks (RFC 9112, 7.1), as its bytes arrive. Everything
// that a client may stretch has a bound: bytes, chunks, the line in front of a chunk, trailers
// (robustness.md H-3, H-4). No sockets: bytes in, body out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "server/http_head.h"

namespace tidemill {

// Of a chunked body, beside its bytes.
struct BodyLimits {
  int64_t num_chunks = 65536;     // the last, empty one not counted
  int64_t chunk_extension = 256;  // bytes behind a chunk's size, up to the line's end
  int64_t trailers = 8 << 10;     // bytes between the last chunk's line and the empty line
};

class HttpBody {
 public:
  // The body that `head` announces, of at most that many bytes.
  HttpBody(const HttpHead& head, int64_t max_bytes, const BodyLimits& limits = {});

  // kMore: the bytes given were not enough; those that put() did not take are given again, with
  // more behind them.
  enum class State { kMore, kDone, kTooLarge, kMalformed };
  State state() const { return state_; }

  // How many of `bytes` it took. What it leaves of a body that wants more is a part of a line, and
  // shorter than the longest line that it would take.
  size_t put(std::string_view bytes);

  std::string take() { return std::move(body_); }  // once, when done

 private:
  enum class Expects { kData, kDataEnd, kChunkLine, kTrailer };

  size_t put_data(std::string_view bytes);
  size_t put_line(std::string_view bytes);
  void end_line(std::string_view line);
  void begin_chunk(std::string_view line);
  void end_trailer(std::string_view line);
  int64_t longest_line() const;
  void make_room(size_t more);

  const bool chunked_;
  const int64_t max_bytes_;
  const BodyLimits limits_;
  State state_ = State::kMore;
  Expects expects_ = Expects::kData;
  uint64_t left_ = 0;  // of the chunk, or of the whole body
  int64_t num_chunks_ = 0;
  int64_t trailer_bytes_ = 0;
  std::string body_;
};

}  // namespace tidemill
