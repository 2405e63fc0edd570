// Typed reading of a request's JSON object, the same for every schema: null means "not given", 5.0
// is an integer, 5.5 and "5" are not, and the first problem is kept with the path of its field.
//
// Everything is checked against the schema's table (field_table.h) before anything is read: types
// of all fields, then ranges, then what is refused. What has another type reads as if it were
// absent. A field that the table does not hold, or not with that type, cannot be read.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/field_table.h"
#include "base/json.h"
#include "base/result.h"

namespace tidemill {

// An integer in either spelling, 5 or 5.0, that fits 64 bits.
std::optional<int64_t> whole_number(const JsonValue& value);

class Fields {
 public:
  // Checks all of `object` against the table. `path` is in front of every name in a message: "" or
  // "parameters.".
  Fields(const JsonValue& object, std::string path, const FieldTable& table,
         const RequestLimits& limits);

  std::optional<int64_t> integer(std::string_view name);
  // 64 bits, whatever they mean: the whole range of signed and of unsigned integers.
  std::optional<uint64_t> bits(std::string_view name);
  std::optional<double> number(std::string_view name);
  std::optional<bool> boolean(std::string_view name);
  std::optional<std::string> text(std::string_view name);
  // A string, or a list of strings.
  std::optional<std::vector<std::string>> texts(std::string_view name);
  std::optional<std::vector<int64_t>> integers(std::string_view name);
  // An object of token ids and numbers, in its order.
  std::optional<std::vector<std::pair<int64_t, double>>> bias(std::string_view name);
  // Any value but null; the field counts as known.
  const JsonValue* value(std::string_view name);

  void problem(ErrorKind kind, std::string_view name, std::string message);
  // The first problem of an object inside this one.
  void adopt(const Fields& inner);
  // With strict parameters: the error that names the first unknown field.
  static Error unknown_field(const std::string& path);
  const std::optional<Error>& first_problem() const { return problem_; }

  // Names of the object that nobody asked for, in its order.
  std::vector<std::string> unknown() const;
  std::string path_of(std::string_view name) const { return path_ + std::string(name); }
  // The table's rows that are used and that nobody has asked for: empty once a schema was read.
  std::vector<std::string_view> unread() const;
  // The path of the first of those names that the object holds; of the first when it holds none.
  std::string given_name(std::initializer_list<std::string_view> names) const;

 private:
  void check_types();
  void check_ranges(const RequestLimits& limits);
  void check_refused();
  const JsonValue* given(std::string_view name) const;  // nothing where it is null
  const JsonValue* find(std::string_view name, std::initializer_list<FieldType> types);

  const JsonValue& object_;
  std::string path_;
  const FieldTable& table_;
  std::vector<std::string> known_;
  std::optional<Error> problem_;
};

}  // namespace tidemill
