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

const JsonValue* Fields::find(std::string_view name) {
  known_.emplace_back(name);
  const JsonValue* value = object_.find(name);
  return value == nullptr || value->is_null() ? nullptr : value;
}

const JsonValue* Fields::value(std::string_view name) { return find(name); }

void Fields::problem(ErrorKind kind, std::string_view name, std::string message) {
  if (problem_) return;
  problem_ = Error{.kind = kind, .field = path_of(name), .message = std::move(message)};
}

void Fields::wrong_type(std::string_view name, const JsonValue& value, std::string_view expected) {
  problem(ErrorKind::kInvalidParameter, name,
          format("{} is {}; it must be {}.", path_of(name), value.kind_name(), expected));
}

std::optional<int64_t> Fields::integer(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  const auto number = whole_number(*value);
  if (!number) wrong_type(name, *value, "an integer of at most 64 bits with sign");
  return number;
}

std::optional<uint64_t> Fields::bits(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_integer() && !value->fits_int64()) return value->unsigned_integer();
  const auto number = whole_number(*value);
  if (!number) wrong_type(name, *value, "an integer");
  return number ? std::optional(static_cast<uint64_t>(*number)) : std::nullopt;
}

std::optional<double> Fields::number(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_number()) return value->number();
  wrong_type(name, *value, "a number");
  return std::nullopt;
}

std::optional<bool> Fields::boolean(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_bool()) return value->boolean();
  wrong_type(name, *value, "true or false");
  return std::nullopt;
}

std::optional<std::string> Fields::text(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return value->string();
  wrong_type(name, *value, "a string");
  return std::nullopt;
}

std::optional<std::vector<std::string>> Fields::texts(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (value->is_string()) return std::vector<std::string>{value->string()};
  std::vector<std::string> texts;
  const bool all_strings =
      value->is_array() && std::all_of(value->array().begin(), value->array().end(),
                                       [](const JsonValue& item) { return item.is_string(); });
  if (!all_strings) {
    wrong_type(name, *value, "a string or a list of strings");
    return std::nullopt;
  }
  for (const JsonValue& item : value->array()) texts.push_back(item.string());
  return texts;
}

std::optional<std::vector<int64_t>> Fields::integers(std::string_view name) {
  const JsonValue* value = find(name);
  if (value == nullptr) return std::nullopt;
  std::vector<int64_t> numbers;
  if (value->is_array()) {
    for (const JsonValue& item : value->array()) {
      if (const auto number = whole_number(item)) numbers.push_back(*number);
    }
  }
  if (!value->is_array() || numbers.size() != value->array().size()) {
    wrong_type(name, *value, "a list of integers");
    return std::nullopt;
  }
  return numbers;
}

void Fields::accept(std::initializer_list<std::string_view> names) {
  for (const std::string_view name : names) known_.emplace_back(name);
}

void Fields::refuse_unless(std::string_view name, const JsonValue& neutral,
                           std::string_view way_out) {
  const JsonValue* value = find(name);
  if (value == nullptr || *value == neutral) return;
  if (value->is_number() && neutral.is_number() && value->number() == neutral.number()) return;
  problem(ErrorKind::kUnsupportedParameter, name,
          format("{} is not supported yet. {}", path_of(name), way_out));
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

std::string Fields::given_name(std::initializer_list<std::string_view> names) const {
  for (const std::string_view name : names) {
    const JsonValue* value = object_.find(name);
    if (value != nullptr && !value->is_null()) return path_of(name);
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
