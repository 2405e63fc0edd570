#include "load/event_stream.h"

#include <algorithm>
#include <utility>

namespace tidemill {

std::vector<std::string> LineReader::push(std::string_view bytes) {
  std::vector<std::string> lines;
  if (after_return_ && !bytes.empty()) {
    after_return_ = false;
    if (bytes.front() == '\n') bytes.remove_prefix(1);
  }
  while (!bytes.empty()) {
    const size_t end = bytes.find_first_of("\r\n");
    line_ += bytes.substr(0, end);
    if (end == std::string_view::npos) break;
    lines.push_back(std::exchange(line_, std::string()));
    const bool pair = bytes[end] == '\r' && bytes.substr(end + 1).starts_with('\n');
    after_return_ = bytes[end] == '\r' && end + 1 == bytes.size();
    bytes.remove_prefix(end + (pair ? 2 : 1));
  }
  return lines;
}

std::string LineReader::take_rest() { return std::exchange(line_, std::string()); }

std::vector<std::string> EventStreamReader::push(std::string_view bytes) {
  constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
  constexpr std::string_view kData = "data";
  std::vector<std::string> events;
  for (const std::string& whole : lines_.push(bytes)) {
    std::string_view line = whole;
    if (std::exchange(first_line_, false) && line.starts_with(kByteOrderMark)) {
      line.remove_prefix(kByteOrderMark.size());
    }
    if (line.empty()) {
      if (std::exchange(has_data_, false)) events.push_back(std::exchange(data_, std::string()));
      continue;
    }
    const size_t colon = std::min(line.find(':'), line.size());
    if (line.substr(0, colon) != kData) continue;
    line.remove_prefix(std::min(colon + 1, line.size()));
    if (line.starts_with(' ')) line.remove_prefix(1);
    if (has_data_) data_ += '\n';
    data_ += line;
    has_data_ = true;
  }
  return events;
}

}  // namespace tidemill
