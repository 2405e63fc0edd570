#include "api/fields.h"

#include <algorithm>
#include <cmath>

#include "base/check.h"
#include "base/utf8.h"

namespace tidemill {
namespace {

constexpr double kMaxExactReal = 9.0e15;  // below 2^53: neighbouring integers are told apart

}  // namespace

std::optional<int64_t> whole_number(const JsonValue& value) {
  if (value.is_integer()) {
    if (value.fits_int64()) return value.integer();
    return std::nullopt;
  }
  if (!value.is_real()) return std::nullopt;
  const double number = value.number();
  if (std::abs(number) > kMaxExactReal || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

Fields::Fields(const JsonValue& object, std::string path, const FieldTable& table,
               const RequestLimits& limits)
    : object_(object), path_(std::move(path)), table_(table) {
  check_types();
  check_ranges(limits);
  check_refused();
}

const JsonValue* Fields::given(std::string_view name) const {
  const JsonValue* value = object_.find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

void Fields::check_types() {
  for (const FieldRow& row : table_.rows) {
    if (row.use != FieldUse::kUsed) continue;
    const JsonValue* value = given(row.name);
    if (value == nullptr && row.required) {
      problem(ErrorKind::kMissingParameter, row.name,
              format("{} is missing; it must be {}.", path_of(row.name), expected(row.type)));
    }
    if (value != nullptr && !fits(*value, row.type)) {
      problem(ErrorKind::kInvalidParameter, row.name,
              format("{} is {}; it must be {}.", path_of(row.name), value->kind_name(),
                     expected(row.type)));
    }
  }
}

void Fields::check_ranges(const RequestLimits& limits) {
  for (const FieldRow& row : table_.rows) {
    const JsonValue* value = row.use == FieldUse::kUsed ? given(row.name) : nullptr;
    if (value == nullptr || !fits(*value, row.type)) continue;
    if (const auto wrong = out_of_range(row, *value, limits)) {
      problem(ErrorKind::kInvalidParameter, row.name, format("{} {}.", path_of(row.name), *wrong));
    }
  }
}

void Fields::check_refused() {
  for (const FieldRow& row : table_.rows) {
    if (row.use == FieldUse::kUsed) continue;
    known_.emplace_back(row.name);
    const JsonValue* value = row.use == FieldUse::kRefused ? given(row.name) : nullptr;
    if (value == nullptr || asks_for_nothing(row, *value)) continue;
    problem(ErrorKind::kUnsupportedParameter, row.name,
            format("{} is not supported yet. {}", path_of(row.name), row.sentence));
  }
}

const JsonValue* Fields::find(std::string_view name, std::initializer_list<FieldType> types) {
  known_.emplace_back(name);
  const FieldRow* row = table_.find(name);
  CHECK(row != nullptr && row->use == FieldUse::kUsed, "{} has no row for the field {}",
        table_.name, name);
  CHECK(std::find(types.begin(), types.end(), row->type) != types.end(),
        "{} gives the field {} another type", table_.name, name);
  const JsonValue* value = given(name);
  return value != nullptr && fits(*value, row->type) ? value : nullptr;
}

const JsonValue* Fields::value(std::string_view name) {
  return find(name, {FieldType::kTexts, FieldType::kList, FieldType::kObject, FieldType::kContent,
                     FieldType::kPrompt, FieldType::kAny});
}

void Fields::problem(ErrorKind kind, std::string_view name, std::string message) {
  if (problem_) return;
  problem_ = Error{.kind = kind, .field = path_of(name), .message = std::move(message)};
}

std::optional<int64_t> Fields::integer(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kInteger});
  return value == nullptr ? std::nullopt : whole_number(*value);
}

std::optional<uint64_t> Fields::bits(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kBits});
  if (value == nullptr) return std::nullopt;
  if (value->is_integer() && !value->fits_int64()) return value->unsigned_integer();
  return static_cast<uint64_t>(*whole_number(*value));
}

std::optional<double> Fields::number(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kNumber});
  return value == nullptr ? std::nullopt : std::optional(value->number());
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kBoolean});
  return value == nullptr ? std::nullopt : std::optional(value->boolean());
}

std::optional<std::string> Fields::text(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kText});
  return value == nullptr ? std::nullopt : std::optional(value->string());
}

std::optional<std::vector<std::string>> Fields::texts(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kTexts});
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{value->string()};
  std::vector<std::string> texts;
  for (const JsonValue& item : value->array()) texts.push_back(item.string());
  return texts;
}

std::optional<std::vector<int64_t>> Fields::integers(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kIntegers});
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> numbers;
  for (const JsonValue& item : value->array()) numbers.push_back(*whole_number(item));
  return numbers;
}

std::optional<std::vector<std::pair<int64_t, double>>> Fields::bias(std::string_view name) {
  const JsonValue* value = find(name, {FieldType::kBias});
  if (value == nullptr) return std::nullopt;
  std::vector<std::pair<int64_t, double>> entries;
  for (const auto& [id, number] : value->object()) {
    entries.emplace_back(std::stoll(id), number.number());
  }
  return entries;
}

void Fields::adopt(const Fields& inner) {
  if (!problem_) problem_ = inner.problem_;
}

Error Fields::unknown_field(const std::string& path) {
  const std::string shown = excerpt(path);
  return {.kind = ErrorKind::kUnknownParameter,
          .field = shown,
          .message = format("{} is not a known field.", shown)};
}

std::vector<std::string_view> Fields::unread() const {
  std::vector<std::string_view> names;
  for (const FieldRow& row : table_.rows) {
    if (std::find(known_.begin(), known_.end(), row.name) == known_.end()) {
      names.push_back(row.name);
    }
  }
  return names;
}

std::string Fields::given_name(std::initializer_list<std::string_view> names) const {
  for (const std::string_view name : names) {
    if (given(name) != nullptr) return path_of(name);
  }
  return path_of(*names.begin());
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const JsonMember& member : object_.object()) {
    if (std::find(known_.begin(), known_.end(), member.first) == known_.end()) {
      names.push_back(member.first);
    }
  }
  return names;
}

}  // namespace tidemill
