// docs/reference/settings.md, printed from the table; CI compares the committed page with this.
#include <string>

#include "base/check.h"
#include "settings/options.h"

namespace tidemill {
namespace {

// A `|` would end the cell.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) out += c == '|' ? std::string("\\|") : std::string(1, c);
  return out;
}

std::string flag(std::string_view name) {
  std::string out = "--";
  for (const char c : name) out += c == '_' ? '-' : c;
  return out;
}

std::string environment_of(const Option& option) {
  const char* prefix = option.scope == OptionScope::kModel ? "OPTION_" : "SERVING_";
  std::string out;
  // No shell can set a variable with a dot in its name.
  if (option.name.find('.') == std::string_view::npos)
    out = format("`{}{}`", prefix, upper(option.name));
  for (const std::string_view name : words_of(option.environment)) {
    out += format("{}`{}`", out.empty() ? "" : ", ", name);
  }
  return out;
}

std::string key_of(const Option& option) {
  return (option.scope == OptionScope::kModel ? "option." : "") + std::string(option.name);
}

std::string_view verbs_of(const Option& option) {
  return option.verbs.empty() ? "all" : option.verbs;
}

void add_working(std::string& page, OptionScope scope, const char* title, Settings& defaults) {
  page += format(
      "\n## {}\n\n| serving.properties | environment | command line | verbs | default | "
      "allowed | what it does |\n|---|---|---|---|---|---|---|\n",
      title);
  for (const Option& option : all_options()) {
    if (option.scope != scope || option.option_class != OptionClass::kDoesIt) continue;
    const Slot slot = option.slot(defaults);
    page += format("| `{}` | {} | `{}` | {} | {} | {} | {} |\n", key_of(option),
                   environment_of(option), flag(option.name), verbs_of(option), cell(show(slot)),
                   cell(describe(slot, option.allowed)), cell(option.sentence));
  }
}

void add_verbs(std::string& page, Settings& defaults) {
  page +=
      "\n## Of one verb\n\n| command line | verbs | default | allowed | what it does |\n"
      "|---|---|---|---|---|\n";
  for (const Option& option : all_options()) {
    if (option.scope != OptionScope::kVerb) continue;
    const Slot slot = option.slot(defaults);
    page += format("| `{}` | {} | {} | {} | {} |\n", flag(option.name), verbs_of(option),
                   cell(show(slot)), cell(describe(slot, option.allowed)), cell(option.sentence));
  }
}

void add_others(std::string& page, OptionClass wanted, const char* title, const char* column) {
  page += format("\n## {}\n\n| serving.properties | environment | {} |\n|---|---|---|\n", title,
                 column);
  for (const Option& option : all_options()) {
    if (option.option_class != wanted) continue;
    page += format("| `{}` | {} | {} |\n", key_of(option), environment_of(option),
                   cell(option.sentence));
  }
}

}  // namespace

std::string settings_page() {
  Settings defaults;
  std::string page =
      "# Settings\n\n"
      "Printed by `tidemill inspect --print-settings`; do not edit.\n\n"
      "A value is taken from the command line, else `serving.properties`, else `OPTION_*`, else a "
      "variable with a name of its own, else `SERVING_*`, else the default. The column of verbs "
      "says "
      "who has the flag; files and environment are read by all. An unknown setting is "
      "a warning that names the nearest known one, and with `strict` an error. A value that cannot "
      "be obeyed is always an error.\n";
  add_working(page, OptionScope::kModel, "Of the model", defaults);
  add_working(page, OptionScope::kServer, "Of the server and the machine", defaults);
  add_verbs(page, defaults);
  add_others(page, OptionClass::kNoEffect, "Accepted, without effect here", "why");
  add_others(page, OptionClass::kNotYet, "Refused until a later release", "the way out");
  return page;
}

}  // namespace tidemill
