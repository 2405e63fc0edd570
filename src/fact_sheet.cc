#include "fact_sheet.h"

#include <algorithm>

#include "base/check.h"

namespace tidemill {
namespace {

constexpr size_t kNarrowest = 12;
constexpr size_t kWidest = 48;  // a longer name pushes its own text only

std::string key_of(std::string name) {
  for (char& c : name) c = c == ' ' || c == '-' ? '_' : c;
  return name;
}

}  // namespace

std::string FactSheet::text() const {
  std::string out;
  for (const FactSection& section : sections_) {
    size_t width = kNarrowest;
    for (const Fact& fact : section.facts) width = std::max(width, fact.name.size());
    out += section.title + "\n";
    for (const Fact& fact : section.facts) {
      out += format("  {:<{}}  {}\n", fact.name, std::min(width, kWidest), fact.text);
    }
  }
  return out;
}

JsonValue FactSheet::json() const {
  JsonObject sheet;
  for (const FactSection& section : sections_) {
    JsonObject facts;
    for (const Fact& fact : section.facts) {
      facts.emplace_back(fact.key.empty() ? key_of(fact.name) : fact.key,
                         fact.value.is_null() ? JsonValue(fact.text) : fact.value);
    }
    sheet.emplace_back(key_of(section.title),
                       section.value.is_null() ? JsonValue(std::move(facts)) : section.value);
  }
  return sheet;
}

}  // namespace tidemill
