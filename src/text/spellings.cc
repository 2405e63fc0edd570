#include "text/spellings.h"

#include <algorithm>

namespace tidemill {

Spellings::Spellings(const std::vector<std::string>& spellings) {
  for (size_t index = 0; index < spellings.size(); ++index) {
    if (spellings[index].empty()) continue;
    sorted_.push_back({.spelling = spellings[index], .index = index});
    first_bytes_.set(static_cast<unsigned char>(spellings[index].front()));
    longest_ = std::max(longest_, spellings[index].size());
  }
  std::sort(sorted_.begin(), sorted_.end(),
            [](const Entry& a, const Entry& b) { return a.spelling < b.spelling; });
}

// Narrows the sorted list byte by byte to those that the text still agrees with.
const Spellings::Entry* Spellings::longest_at(std::string_view text) const {
  if (!first_bytes_[static_cast<unsigned char>(text.front())]) return nullptr;
  const Entry* longest = nullptr;
  auto begin = sorted_.begin();
  auto end = sorted_.end();
  for (size_t length = 0;; ++length) {
    for (; begin != end && begin->spelling.size() == length; ++begin) longest = &*begin;
    if (begin == end || length == text.size()) return longest;
    const auto byte_of = [&](const Entry& entry) {
      return static_cast<unsigned char>(entry.spelling[length]);
    };
    const auto byte = static_cast<unsigned char>(text[length]);
    begin = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) < byte; });
    end = std::partition_point(begin, end, [&](const Entry& e) { return byte_of(e) == byte; });
  }
}

std::string Spellings::replace(std::string_view text,
                               const std::function<std::string_view(size_t)>& by) const {
  std::string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (const Entry* found = longest_at(text.substr(at))) {
      out += by(found->index);
      at += found->spelling.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

size_t Spellings::begun_at_end(std::string_view text) const {
  for (size_t length = std::min(text.size(), longest_); length > 0; --length) {
    const std::string_view end = text.substr(text.size() - length);
    const auto next =
        std::upper_bound(sorted_.begin(), sorted_.end(), end,
                         [](std::string_view a, const Entry& b) { return a < b.spelling; });
    if (next != sorted_.end() && next->spelling.starts_with(end)) return length;
  }
  return 0;
}

}  // namespace tidemill
