#include "base/utf8.h"

#include <algorithm>

namespace tidemill {
namespace {

constexpr std::string_view kReplacementCharacter = "\ufffd";

// How far a character reaches that begins at text[0]: bytes that are as they must be, of how many.
// Both 0 where none begins.
struct Reach {
  size_t matched = 0;
  size_t length = 0;
};

Reach reach_of(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = text.empty() ? 0xffu : byte(0);
  if (first < 0x80) return {1, 1};
  if (first < 0xc2 || first > 0xf4) return {};
  Reach reach{.matched = 1, .length = first < 0xe0 ? 2u : first < 0xf0 ? 3u : 4u};
  unsigned low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;   // shortest form
  unsigned high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;  // no surrogates; U+10FFFF
  while (reach.matched < std::min(reach.length, text.size()) && byte(reach.matched) >= low &&
         byte(reach.matched) <= high) {
    ++reach.matched;
    low = 0x80;
    high = 0xbf;
  }
  return reach;
}

// Length of the character that begins at text[0]; 0 when it is not valid.
size_t valid_length(std::string_view text) {
  const Reach reach = reach_of(text);
  return reach.matched == reach.length ? reach.length : 0;
}

}  // namespace

std::optional<size_t> first_invalid_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const size_t length = valid_length(text.substr(i, 4));
    if (length == 0) return i;
    i += length;
  }
  return std::nullopt;
}

size_t unfinished_bytes(std::string_view text) {
  for (size_t length = 1; length <= std::min<size_t>(text.size(), 3); ++length) {
    const Reach reach = reach_of(text.substr(text.size() - length));
    if (reach.length > 0) return reach.matched == length && length < reach.length ? length : 0;
  }
  return 0;
}

std::string lossy_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Reach reach = reach_of(text);
    const bool valid = reach.length > 0 && reach.matched == reach.length;
    out += valid ? text.substr(0, reach.length) : kReplacementCharacter;
    text.remove_prefix(std::max<size_t>(reach.matched, 1));
  }
  return out;
}

void append_utf8(std::string* out, uint32_t code_point) {
  const auto put = [out](uint32_t byte) { out->push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xc0 | (code_point >> 6));
    put(0x80 | (code_point & 0x3f));
  } else if (code_point < 0x10000) {
    put(0xe0 | (code_point >> 12));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  } else {
    put(0xf0 | (code_point >> 18));
    put(0x80 | ((code_point >> 12) & 0x3f));
    put(0x80 | ((code_point >> 6) & 0x3f));
    put(0x80 | (code_point & 0x3f));
  }
}

size_t count_code_points(std::string_view text) {
  size_t count = 0;
  for (const char c : text) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  return count;
}

std::string excerpt(std::string_view text, size_t max_bytes) {
  std::string out;
  while (!text.empty()) {
    const size_t length = valid_length(text.substr(0, 4));
    const std::string_view shown = length == 0 ? kReplacementCharacter : text.substr(0, length);
    if (out.size() + shown.size() > max_bytes) break;
    out += shown;
    text.remove_prefix(length == 0 ? 1 : length);
  }
  return out;
}

}  // namespace tidemill
