#include "base/option_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/ascii.h"
#include "base/check.h"

namespace tidemill {
namespace {

template <typename T>
std::optional<T> parse_number(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

bool bounded(const Allowed& allowed) { return allowed.min != 0.0 || allowed.max != 0.0; }

bool inside(const Allowed& allowed, double value) {
  return std::isfinite(value) &&
         (!bounded(allowed) || (value >= allowed.min && value <= allowed.max));
}

std::string range_of(const Allowed& allowed) {
  if (!bounded(allowed)) return "";
  return format(" from {} to {}", allowed.min, allowed.max);
}

std::optional<bool> parse_bool(std::string_view text) {
  const std::string lower = ascii_lower(text);
  if (lower == "true" || lower == "1") return true;
  if (lower == "false" || lower == "0") return false;
  return std::nullopt;
}

std::vector<std::string> split_commas(std::string_view text) {
  std::vector<std::string> items;
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    if (const auto item = trimmed(text.substr(0, comma)); !item.empty()) items.emplace_back(item);
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
  return items;
}

// One function per kind of slot; true when the text was taken.
struct Assigner {
  const Allowed& allowed;
  std::string_view text;

  bool operator()(std::string* slot) const {
    if (!allowed.one_of.empty() &&
        std::find(allowed.one_of.begin(), allowed.one_of.end(), text) == allowed.one_of.end()) {
      return false;
    }
    *slot = std::string(text);
    return true;
  }
  bool operator()(bool* slot) const {
    const auto value = parse_bool(text);
    if (value) *slot = *value;
    return value.has_value();
  }
  template <typename Integer>
  bool operator()(Integer* slot) const {
    const auto value = parse_number<Integer>(text);
    if (!value || !inside(allowed, static_cast<double>(*value))) return false;
    *slot = *value;
    return true;
  }
  bool operator()(const SecondsSlot& slot) const {
    const auto value = parse_number<double>(text);
    if (!value || !inside(allowed, *value)) return false;
    *slot.milliseconds = static_cast<int64_t>(std::llround(*value * 1000.0));
    return true;
  }
  bool operator()(std::vector<std::string>* slot) const {
    *slot = split_commas(text);
    return true;
  }
};

struct Describer {
  const Allowed& allowed;
  std::string operator()(const std::string*) const {
    if (allowed.one_of.empty()) return "text";
    return format("one of {}", fmt::join(allowed.one_of, ", "));
  }
  std::string operator()(const bool*) const { return "true or false"; }
  template <typename Integer>
  std::string operator()(const Integer*) const {
    return "an integer" + range_of(allowed);
  }
  std::string operator()(const double*) const { return "a number" + range_of(allowed); }
  std::string operator()(const SecondsSlot&) const { return "seconds" + range_of(allowed); }
  std::string operator()(const std::vector<std::string>*) const { return "a list with commas"; }
};

struct Shower {
  std::string operator()(const std::string* slot) const { return *slot; }
  std::string operator()(const bool* slot) const { return *slot ? "true" : "false"; }
  template <typename Number>
  std::string operator()(const Number* slot) const {
    return format("{}", *slot);
  }
  std::string operator()(const SecondsSlot& slot) const {
    return format("{}", static_cast<double>(*slot.milliseconds) / 1000.0);
  }
  std::string operator()(const std::vector<std::string>* slot) const {
    return format("{}", fmt::join(*slot, ","));
  }
};

// Levenshtein distance, one row at a time.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, replaced});
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view trimmed(std::string_view text) {
  const auto blank = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!text.empty() && blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && blank(text.back())) text.remove_suffix(1);
  return text;
}

std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return out;
}

std::vector<std::string_view> words_of(std::string_view list) {
  std::vector<std::string_view> words;
  while (!(list = trimmed(list)).empty()) {
    const size_t end = std::min(list.find(' '), list.size());
    words.push_back(list.substr(0, end));
    list.remove_prefix(end);
  }
  return words;
}

bool contains_word(std::string_view list, std::string_view word) {
  const auto words = words_of(list);
  return std::find(words.begin(), words.end(), word) != words.end();
}

std::optional<std::string> assign(const Slot& slot, const Allowed& allowed, std::string_view text) {
  if (std::visit(Assigner{allowed, trimmed(text)}, slot)) return std::nullopt;
  return format("is {}; it must be {}", trimmed(text).substr(0, 64), describe(slot, allowed));
}

std::string show(const Slot& slot) { return std::visit(Shower{}, slot); }

std::string describe(const Slot& slot, const Allowed& allowed) {
  return std::visit(Describer{allowed}, slot);
}

std::optional<std::string_view> nearest_name(std::string_view given,
                                             std::span<const std::string_view> names) {
  std::optional<std::string_view> best;
  size_t best_distance = given.size() / 3 + 1;  // further away it is another word, not a slip
  for (const std::string_view name : names) {
    const size_t d = distance(given, name);
    if (d <= best_distance && (!best || d < best_distance)) {
      best = name;
      best_distance = d;
    }
  }
  return best;
}

}  // namespace tidemill
