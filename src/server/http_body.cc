#include "server/http_body.h"

#include <algorithm>
#include <charconv>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr std::string_view kBodyLineEnd = "\r\n";
constexpr size_t kMaxSizeDigits = 16;  // of a chunk's size: what 64 bits hold

// Of a chunk's extension and of a trailer, what the head allows in a field, too.
bool is_plain(std::string_view text) {
  return std::none_of(text.begin(), text.end(),
                      [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
}

}  // namespace

HttpBody::HttpBody(const HttpHead& head, int64_t max_bytes, const BodyLimits& limits)
    : chunked_(head.chunked), max_bytes_(max_bytes), limits_(limits) {
  if (chunked_) {
    expects_ = Expects::kChunkLine;
    return;
  }
  left_ = head.content_length.value_or(0);
  if (left_ > static_cast<uint64_t>(max_bytes_)) state_ = State::kTooLarge;
  if (left_ == 0) state_ = State::kDone;
}

size_t HttpBody::put(std::string_view bytes) {
  size_t taken = 0;
  while (state_ == State::kMore && taken < bytes.size()) {
    const std::string_view rest = bytes.substr(taken);
    const size_t used = expects_ == Expects::kData ? put_data(rest) : put_line(rest);
    if (used == 0) break;
    taken += used;
  }
  return taken;
}

size_t HttpBody::put_data(std::string_view bytes) {
  const auto size = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
  make_room(size);
  body_.append(bytes.data(), size);
  left_ -= size;
  if (left_ > 0) return size;
  if (chunked_) {
    expects_ = Expects::kDataEnd;
  } else {
    state_ = State::kDone;
  }
  return size;
}

// A string that grows by doubling holds what it had and what it gets for a moment: up to three
// times the limit. Past a quarter of the limit the next size is the limit.
void HttpBody::make_room(size_t more) {
  const size_t wanted = body_.size() + more;
  if (wanted <= body_.capacity()) return;
  const auto most = static_cast<size_t>(max_bytes_);
  const size_t doubled = std::max(wanted, 2 * body_.capacity());
  body_.reserve(doubled > most / 2 ? std::max(most, wanted) : doubled);
}

int64_t HttpBody::longest_line() const {
  switch (expects_) {
    case Expects::kData:
    case Expects::kDataEnd:
      return 0;
    case Expects::kChunkLine:
      return static_cast<int64_t>(kMaxSizeDigits) + limits_.chunk_extension;
    case Expects::kTrailer:
      return limits_.trailers - trailer_bytes_;
  }
  return 0;
}

// A line is taken whole or not at all; one that can no longer end within its limit is refused.
size_t HttpBody::put_line(std::string_view bytes) {
  const auto longest = static_cast<size_t>(longest_line()) + kBodyLineEnd.size();
  const size_t end = bytes.substr(0, longest).find('\n');
  if (end == std::string_view::npos) {
    const bool follows_data = expects_ == Expects::kDataEnd && bytes.front() != '\r';
    if (follows_data || bytes.size() >= longest) state_ = State::kMalformed;
    return 0;
  }
  if (end == 0 || bytes[end - 1] != '\r') {
    state_ = State::kMalformed;
    return 0;
  }
  end_line(bytes.substr(0, end - 1));
  return end + 1;
}

void HttpBody::end_line(std::string_view line) {
  switch (expects_) {
    case Expects::kDataEnd:
      expects_ = Expects::kChunkLine;
      return;
    case Expects::kChunkLine:
      return begin_chunk(line);
    case Expects::kTrailer:
      return end_trailer(line);
    case Expects::kData:
      break;
  }
  CHECK(false, "data has no lines");
}

void HttpBody::begin_chunk(std::string_view line) {
  uint64_t size = 0;
  const char* const line_end = line.data() + line.size();
  const auto [end, error] = std::from_chars(line.data(), line_end, size, 16);
  const std::string_view extension(end, static_cast<size_t>(line_end - end));
  const size_t digits = line.size() - extension.size();
  const bool begins_well = extension.empty() || extension.front() == ';';
  if (error != std::errc() || digits > kMaxSizeDigits || !begins_well || !is_plain(extension) ||
      extension.size() > static_cast<size_t>(limits_.chunk_extension)) {
    state_ = State::kMalformed;
    return;
  }
  if (size == 0) {
    expects_ = Expects::kTrailer;
  } else if (size > static_cast<uint64_t>(max_bytes_) - body_.size()) {
    state_ = State::kTooLarge;
  } else if (++num_chunks_ > limits_.num_chunks) {
    state_ = State::kMalformed;
  } else {
    left_ = size;
    expects_ = Expects::kData;
  }
}

// Trailers are read to find the body's end, and forgotten.
void HttpBody::end_trailer(std::string_view line) {
  if (line.empty()) {
    state_ = State::kDone;
    return;
  }
  trailer_bytes_ += static_cast<int64_t>(line.size() + kBodyLineEnd.size());
  const bool folded = line.front() == ' ' || line.front() == '\t';
  const size_t colon = line.find(':');
  if (folded || colon == std::string_view::npos || colon == 0 || !is_plain(line) ||
      trailer_bytes_ > limits_.trailers) {
    state_ = State::kMalformed;
  }
}

}  // namespace tidemill
