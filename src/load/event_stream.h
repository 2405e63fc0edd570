// Server-sent events and JSON lines, taken apart as their bytes come in pieces of any size.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tidemill {

// An event or line longer than this ends the answer.
inline constexpr size_t kMaxEventBytes = size_t{16} << 20;

// Lines that end with "\n", "\r\n" or "\r", without their ends. A "\n" that follows a "\r" in the
// next piece belongs to it.
class LineReader {
 public:
  // The lines that `bytes` complete.
  std::vector<std::string> push(std::string_view bytes);
  // What came after the last line's end.
  std::string take_rest();
  bool overlong() const { return line_.size() > kMaxEventBytes; }

 private:
  std::string line_;
  bool after_return_ = false;
};

// The data of server-sent events (WHATWG HTML 9.2.6): `data` lines joined by "\n". Comments and
// other fields are passed over; an event whose blank line never comes is none.
class EventStreamReader {
 public:
  std::vector<std::string> push(std::string_view bytes);
  bool overlong() const { return lines_.overlong() || data_.size() > kMaxEventBytes; }

 private:
  LineReader lines_;
  std::string data_;
  bool has_data_ = false;
  bool first_line_ = true;
};

}  // namespace tidemill
