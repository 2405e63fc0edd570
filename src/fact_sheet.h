// Named values under headings, for people as aligned lines and for programs as JSON: what `inspect`
// prints.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace tidemill {

struct Fact {
  std::string name;
  std::string text;   // for people
  JsonValue value{};  // for programs; null: the text
  std::string key{};  // for programs; empty: the name with underscores
};

struct FactSection {
  std::string title;
  std::vector<Fact> facts;
  JsonValue value{};  // for programs; null: an object of the facts
};

class FactSheet {
 public:
  void add(FactSection section) { sections_.push_back(std::move(section)); }

  std::string text() const;
  JsonValue json() const;  // {"title": {"key": value, ...}, ...}

 private:
  std::vector<FactSection> sections_;
};

}  // namespace tidemill
