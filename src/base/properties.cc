#include "base/properties.h"

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr size_t kMaxFileBytes = 1 << 20;

bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\f'; }

// A logical line: natural lines joined where one ends in an odd number of backslashes.
struct LogicalLine {
  std::string text;
  int number = 0;
};

class LineReader {
 public:
  explicit LineReader(std::string_view text) : text_(text) {}

  // The next line that is neither blank nor a comment; nullopt at the end.
  std::optional<LogicalLine> next() {
    while (position_ < text_.size()) {
      std::string_view natural = natural_line();
      if (natural.empty() || natural.front() == '#' || natural.front() == '!') continue;
      LogicalLine line{.text = "", .number = number_};
      while (continues(natural)) {
        line.text += natural.substr(0, natural.size() - 1);
        if (position_ >= text_.size()) return line;
        natural = natural_line();
      }
      line.text += natural;
      return line;
    }
    return std::nullopt;
  }

 private:
  // One natural line without its leading blanks and its end.
  std::string_view natural_line() {
    ++number_;
    const size_t end = std::min(text_.find_first_of("\r\n", position_), text_.size());
    std::string_view line = text_.substr(position_, end - position_);
    position_ = end + 1;
    if (text_.substr(end).starts_with("\r\n")) ++position_;
    while (!line.empty() && is_blank(line.front())) line.remove_prefix(1);
    return line;
  }

  static bool continues(std::string_view line) {
    size_t backslashes = 0;
    while (backslashes < line.size() && line[line.size() - 1 - backslashes] == '\\') ++backslashes;
    return backslashes % 2 == 1;
  }

  std::string_view text_;
  size_t position_ = 0;
  int number_ = 0;
};

// Four hex digits as a number; nullopt when they are not that.
std::optional<uint32_t> hex4(std::string_view digits) {
  if (digits.size() != 4) return std::nullopt;
  uint32_t value = 0;
  for (const char c : digits) {
    const std::string_view all = "0123456789abcdef";
    const size_t digit = all.find(static_cast<char>(c >= 'A' && c <= 'F' ? c + 32 : c));
    if (digit == std::string_view::npos) return std::nullopt;
    value = value * 16 + static_cast<uint32_t>(digit);
  }
  return value;
}

// The character behind "\u", surrogate pairs joined; advances `position` past it.
std::optional<uint32_t> escaped_code_point(std::string_view text, size_t& position) {
  const auto first = hex4(text.substr(std::min(position, text.size()), 4));
  if (!first) return std::nullopt;
  position += 4;
  if (*first < 0xd800 || *first > 0xdfff) return first;
  if (*first > 0xdbff || text.substr(position, 2) != "\\u") return std::nullopt;
  const auto second = hex4(text.substr(std::min(position + 2, text.size()), 4));
  if (!second || *second < 0xdc00 || *second > 0xdfff) return std::nullopt;
  position += 6;
  return 0x10000 + ((*first - 0xd800) << 10) + (*second - 0xdc00);
}

std::string unescape(std::string_view text, std::string_view name, int line) {
  std::string out;
  for (size_t i = 0; i < text.size();) {
    if (text[i] != '\\' || i + 1 == text.size()) {
      out += text[i++];
      continue;
    }
    const char c = text[i + 1];
    i += 2;
    switch (c) {
      case 't':
        out += '\t';
        break;
      case 'n':
        out += '\n';
        break;
      case 'r':
        out += '\r';
        break;
      case 'f':
        out += '\f';
        break;
      case 'u': {
        const auto code_point = escaped_code_point(text, i);
        if (!code_point) {
          throw std::runtime_error(format(
              "{}:{}: \\u must be followed by four hex digits (surrogates in pairs).", name, line));
        }
        append_utf8(&out, *code_point);
        break;
      }
      default:
        out += c;  // "\:" and the like: the character itself
    }
  }
  return out;
}

// Every byte is a character of ISO-8859-1.
std::string from_latin1(std::string_view text) {
  std::string out;
  for (const char c : text) append_utf8(&out, static_cast<unsigned char>(c));
  return out;
}

// Where the key ends: the first =, : or blank that no backslash precedes.
size_t end_of_key(std::string_view line) {
  for (size_t i = 0; i < line.size(); ++i) {
    if (line[i] == '\\') {
      ++i;
    } else if (line[i] == '=' || line[i] == ':' || is_blank(line[i])) {
      return i;
    }
  }
  return line.size();
}

}  // namespace

std::vector<Property> parse_properties(std::string_view text, std::string_view name) {
  if (text.size() > kMaxFileBytes) {
    throw std::runtime_error(format("{} has {} bytes; a properties file may have {}.", name,
                                    text.size(), kMaxFileBytes));
  }
  const std::string decoded = first_invalid_utf8(text) ? from_latin1(text) : std::string(text);
  std::vector<Property> properties;
  LineReader lines(decoded);
  while (const auto line = lines.next()) {
    const std::string_view all = line->text;
    const size_t key_end = end_of_key(all);
    std::string_view value = all.substr(key_end);
    while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
    if (!value.empty() && (value.front() == '=' || value.front() == ':')) {
      value.remove_prefix(1);
      while (!value.empty() && is_blank(value.front())) value.remove_prefix(1);
    }
    properties.push_back({.key = unescape(all.substr(0, key_end), name, line->number),
                          .value = unescape(value, name, line->number),
                          .line = line->number});
  }
  return properties;
}

}  // namespace tidemill
