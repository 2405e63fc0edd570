// The fields of a request as a table: one row each, with its type, range and default, and what
// becomes of it. Parsers read bodies through their table (fields.h), and /openapi.json and
// docs/reference/api.md are printed from it: what is read, what is refused and what is documented
// are the same by construction.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "executor/generation_request.h"

namespace tidemill {

enum class FieldType {
  kBoolean,
  kInteger,   // 5 or 5.0
  kBits,      // an integer of 64 bits, signed or not
  kNumber,    // an integer, too
  kText,      // a string
  kTexts,     // a string or a list of strings
  kIntegers,  // a list of integers
  kList,      // a list of anything; whoever reads it checks the items
  kObject,    // whoever reads it checks the members
  kBias,      // an object of token ids, as strings, and numbers
  kContent,   // a string or a list of parts; whoever reads it checks the parts
  kPrompt,    // a string or a list: of strings, of ids, or of lists of ids
  kAny,
};

enum class FieldUse {
  kUsed,
  kNoEffect,  // accepted, whatever it holds
  kRefused,   // known and not supported: only null and the row's `neutral` are accepted
};

// What a value may be, bounds included: of a number (and of each number of kBias) the value, of a
// string its bytes, of a list how many it holds.
struct FieldRange {
  double min = -std::numeric_limits<double>::infinity();
  double max = std::numeric_limits<double>::infinity();
  bool above_min = false;                   // min itself is not allowed
  int64_t RequestLimits::*limit = nullptr;  // a maximum that the model or the server sets
  std::string_view limit_name = {};         // in words, for documents
  bool operator==(const FieldRange&) const = default;
  bool bounded() const { return !(*this == FieldRange{}); }
};

struct FieldRow {
  std::string_view name;
  FieldType type = FieldType::kAny;
  std::string_view fallback = {};  // the default as JSON; empty: there is none
  FieldRange range = {};
  std::string_view sentence = {};  // what it does; why it has no effect; the way out
  FieldUse use = FieldUse::kUsed;
  std::string_view neutral = {};                  // kRefused: JSON that asks for nothing
  std::span<const std::string_view> values = {};  // of a text; none: any
  bool required = false;
  std::string_view inner = {};  // the schema of the object, or of the list's items
};

constexpr FieldRow no_effect(std::string_view name, std::string_view sentence) {
  return {.name = name, .sentence = sentence, .use = FieldUse::kNoEffect};
}
constexpr FieldRow refused(std::string_view name, std::string_view neutral,
                           std::string_view way_out) {
  return {.name = name, .sentence = way_out, .use = FieldUse::kRefused, .neutral = neutral};
}
constexpr FieldRange from_to(double min, double max) { return {.min = min, .max = max}; }
constexpr FieldRange up_to(double min, int64_t RequestLimits::*limit, std::string_view name) {
  return {.min = min, .limit = limit, .limit_name = name};
}

// Rows of several schemas, one behind the other.
template <size_t A, size_t B>
constexpr std::array<FieldRow, A + B> joined(const std::array<FieldRow, A>& first,
                                             const std::array<FieldRow, B>& second) {
  std::array<FieldRow, A + B> all{};
  for (size_t i = 0; i < A; ++i) all[i] = first[i];
  for (size_t i = 0; i < B; ++i) all[A + i] = second[i];
  return all;
}

struct FieldTable {
  std::string_view name;  // of the schema in /openapi.json: "CompletionRequest"
  std::span<const FieldRow> rows;

  const FieldRow* find(std::string_view field) const;
};

// "an integer", "a string or a list of strings".
std::string_view expected(FieldType type);
bool fits(const JsonValue& value, FieldType type);
// What is wrong with a value that fits the row's type, or nothing: "is 3; it must lie in 0 to 2".
std::optional<std::string> out_of_range(const FieldRow& row, const JsonValue& value,
                                        const RequestLimits& limits);
// Does it ask for what a refused row cannot give?
bool asks_for_nothing(const FieldRow& row, const JsonValue& value);
// "a, b or c".
std::string values_text(const FieldRow& row);
// "0 to 2", "above 0, at most 10", "at least 1, at most max_choices"; empty without bounds.
std::string range_text(const FieldRange& range);

// The tables, in the order of the reference page.
extern const FieldTable kCompletionTable;
extern const FieldTable kChatTable;
extern const FieldTable kMessageTable;  // of `messages`
extern const FieldTable kStreamOptionsTable;
extern const FieldTable kTokenizeTable;
extern const FieldTable kDetokenizeTable;
extern const FieldTable kInvocationTable;  // with `inputs`
extern const FieldTable kInvocationParametersTable;
extern const FieldTable kInvocationChatTable;  // with `messages`
extern const FieldTable kInvocationChatParametersTable;

}  // namespace tidemill
