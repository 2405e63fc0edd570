#include "api/field_table.h"

#include <algorithm>
#include <cmath>

#include "api/fields.h"
#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

bool is_token_id(const std::string& text) {
  return !text.empty() && text.size() <= 10 &&
         text.find_first_not_of("0123456789") == std::string::npos;
}

template <typename Predicate>
bool list_of(const JsonValue& value, Predicate holds) {
  return value.is_array() && std::all_of(value.array().begin(), value.array().end(), holds);
}

bool is_bias(const JsonValue& value) {
  return value.is_object() &&
         std::all_of(value.object().begin(), value.object().end(), [](const JsonMember& member) {
           return is_token_id(member.first) && member.second.is_number();
         });
}

double upper_bound(const FieldRange& range, const RequestLimits& limits) {
  return range.limit == nullptr ? range.max : static_cast<double>(limits.*range.limit);
}

// "lie in 0 to 2", "be at least 1".
std::string bounds(const FieldRange& range, double max) {
  const bool low = std::isfinite(range.min), high = std::isfinite(max);
  if (low && high && !range.above_min) return format("lie in {} to {}", range.min, max);
  if (low && high) return format("lie above {} and be at most {}", range.min, max);
  if (low) return format("{} {}", range.above_min ? "lie above" : "be at least", range.min);
  return format("be at most {}", max);
}

bool inside(double value, const FieldRange& range, double max) {
  if (!std::isfinite(value) || value > max) return false;
  return range.above_min ? value > range.min : value >= range.min;
}

}  // namespace

const FieldRow* FieldTable::find(std::string_view field) const {
  for (const FieldRow& row : rows) {
    if (row.name == field) return &row;
  }
  return nullptr;
}

std::string_view expected(FieldType type) {
  switch (type) {
    case FieldType::kBoolean:
      return "true or false";
    case FieldType::kInteger:
      return "an integer of at most 64 bits with sign";
    case FieldType::kBits:
      return "an integer of 64 bits";
    case FieldType::kNumber:
      return "a number";
    case FieldType::kText:
      return "a string";
    case FieldType::kTexts:
      return "a string or a list of strings";
    case FieldType::kIntegers:
      return "a list of integers";
    case FieldType::kList:
      return "a list";
    case FieldType::kObject:
      return "an object";
    case FieldType::kBias:
      return "an object of token ids, spelled as strings, and numbers";
    case FieldType::kContent:
      return "a string or a list of parts";
    case FieldType::kPrompt:
      return "a string, a list of strings, a list of token ids, or a list of such lists";
    case FieldType::kAny:
      break;
  }
  return "anything";
}

bool fits(const JsonValue& value, FieldType type) {
  const auto is_whole = [](const JsonValue& item) { return whole_number(item).has_value(); };
  switch (type) {
    case FieldType::kBoolean:
      return value.is_bool();
    case FieldType::kInteger:
      return is_whole(value);
    case FieldType::kBits:
      return value.is_integer() || is_whole(value);
    case FieldType::kNumber:
      return value.is_number();
    case FieldType::kText:
      return value.is_string();
    case FieldType::kTexts:
      return value.is_string() ||
             list_of(value, [](const JsonValue& item) { return item.is_string(); });
    case FieldType::kIntegers:
      return list_of(value, is_whole);
    case FieldType::kList:
      return value.is_array();
    case FieldType::kObject:
      return value.is_object();
    case FieldType::kBias:
      return is_bias(value);
    case FieldType::kContent:
    case FieldType::kPrompt:
      return value.is_string() || value.is_array();
    case FieldType::kAny:
      break;
  }
  return true;
}

std::optional<std::string> out_of_range(const FieldRow& row, const JsonValue& value,
                                        const RequestLimits& limits) {
  if (!row.values.empty()) {
    const auto known = std::find(row.values.begin(), row.values.end(), value.string());
    if (known != row.values.end()) return std::nullopt;
    return format("is {}; it must be {}", excerpt(value.string()), values_text(row));
  }
  if (!row.range.bounded()) return std::nullopt;
  const double max = upper_bound(row.range, limits);
  if (value.is_number()) {
    if (inside(value.number(), row.range, max)) return std::nullopt;
    return format("is {}; it must {}", to_json(value), bounds(row.range, max));
  }
  if (row.type == FieldType::kBias) {
    for (const auto& [id, bias] : value.object()) {
      if (inside(bias.number(), row.range, max)) continue;
      return format("adds {} to token {}; what is added must {}", to_json(bias), id,
                    bounds(row.range, max));
    }
    return std::nullopt;
  }
  const bool list = value.is_array();
  // A string stands for a list of one.
  const size_t size =
      list ? value.array().size() : (row.type == FieldType::kTexts ? 1 : value.string().size());
  if (inside(static_cast<double>(size), row.range, max)) return std::nullopt;
  return format("has {} {}; their number must {}", size, list ? "items" : "bytes",
                bounds(row.range, max));
}

bool asks_for_nothing(const FieldRow& row, const JsonValue& value) {
  if (value.is_null()) return true;
  if (row.neutral.empty()) return false;
  const auto neutral = parse_json(row.neutral);
  CHECK(neutral, "row {}: {} is no JSON", row.name, row.neutral);
  if (value.is_number() && neutral->is_number()) return value.number() == neutral->number();
  return value == *neutral;
}

std::string values_text(const FieldRow& row) {
  std::string text;
  for (size_t i = 0; i < row.values.size(); ++i) {
    const bool last = i + 1 == row.values.size();
    text += format("{}{}", i == 0 ? "" : last ? " or " : ", ", row.values[i]);
  }
  return text;
}

std::string range_text(const FieldRange& range) {
  std::string text;
  if (std::isfinite(range.min)) {
    text = format("{} {}", range.above_min ? "above" : "at least", range.min);
  }
  const bool has_max = range.limit != nullptr || std::isfinite(range.max);
  if (!has_max) return text;
  if (!text.empty()) text += ", ";
  return text + (range.limit != nullptr ? format("at most {}", range.limit_name)
                                        : format("at most {}", range.max));
}

}  // namespace tidemill
