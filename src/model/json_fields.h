// Typed reading of a JSON object that somebody else wrote: config.json, engine.json. A member that
// is null counts as absent. Every complaint names the file, the key, what it holds and what is
// allowed (std::runtime_error).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "base/json.h"

namespace tidemill {

class JsonFields {
 public:
  // `object` outlives this. `source` is how messages name it: "config.json".
  JsonFields(const JsonValue& object, std::string source);

  // Aliases of one key; the first that is present counts.
  using Keys = std::initializer_list<std::string_view>;
  struct Bounds {
    int64_t min;
    int64_t max;
  };

  const JsonValue* find(std::string_view key) const;  // null when absent
  bool is_null(std::string_view key) const;           // present, and null
  const std::string& source() const { return source_; }

  // Without a default these throw when the member is absent.
  int64_t integer(Keys keys, Bounds bounds, std::optional<int64_t> absent = {}) const;
  double number(Keys keys, std::optional<double> absent = {}) const;  // finite
  bool boolean(std::string_view key, std::optional<bool> absent = {}) const;
  std::string text(std::string_view key) const;
  const JsonArray& array(std::string_view key) const;
  JsonFields object(std::string_view key) const;

  // "config.json: head_dim is "x"; it must be ..." ready to throw.
  std::runtime_error wrong(std::string_view key, const JsonValue& value,
                           std::string_view allowed) const;

 private:
  struct Member {
    std::string_view key;
    const JsonValue* value = nullptr;
  };
  Member first_of(Keys keys) const;
  std::runtime_error missing(Keys keys) const;

  const JsonValue* object_;
  std::string source_;
};

}  // namespace tidemill
