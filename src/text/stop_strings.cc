#include "text/stop_strings.h"

#include <algorithm>
#include <utility>

namespace tidemill {
namespace {

// Length of the longest end of `text` that begins `stop`, but is not all of it.
size_t overlap(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.ends_with(stop.substr(0, length))) return length;
  }
  return 0;
}

}  // namespace

StopStrings::StopStrings(std::vector<std::string> stops, bool keep_stop_text)
    : stops_(std::move(stops)), keep_stop_text_(keep_stop_text) {}

std::string StopStrings::push(std::string_view text) {
  if (matched_) return "";
  if (stops_.empty()) return std::string(text);
  held_ += text;
  size_t end = std::string::npos;  // of the match that ends first
  for (const std::string& stop : stops_) {
    const size_t begin = held_.find(stop);
    if (begin == std::string::npos) continue;
    const size_t stop_end = begin + stop.size();
    if (end == std::string::npos || stop_end < end ||
        (stop_end == end && stop.size() > matched_->size())) {
      end = stop_end;
      matched_ = stop;
    }
  }
  if (matched_) {
    std::string out = held_.substr(0, keep_stop_text_ ? end : end - matched_->size());
    held_.clear();
    return out;
  }
  size_t keep = 0;
  for (const std::string& stop : stops_) keep = std::max(keep, overlap(held_, stop));
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return out;
}

std::string StopStrings::finish() { return std::exchange(held_, {}); }

}  // namespace tidemill
