#include "command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>

#include "base/check.h"
#include "base/option_table.h"
#include "verbs.h"

namespace tidemill {
namespace {

// --name-with-dashes, and --name_with_underscores as the files spell it.
std::string flags_of(std::string_view name) {
  std::string dashes(name);
  std::replace(dashes.begin(), dashes.end(), '_', '-');
  const std::string plain = "--" + std::string(name);
  return dashes == name ? plain : "--" + dashes + "," + plain;
}

const char* group_of(OptionScope scope) {
  switch (scope) {
    case OptionScope::kModel:
      return "Model";
    case OptionScope::kServer:
      return "Server and machine";
    case OptionScope::kVerb:
      return "This verb";
  }
  return "";
}

bool is_switch(const Option& option) {
  static Settings defaults;
  return option.slot != nullptr && std::holds_alternative<bool*>(option.slot(defaults));
}

// One flag; its values are appended to `given`. A switch takes no value of its own, so that it
// never swallows the model behind it: --strict, or --strict=false.
void add_flag(CLI::App& app, const Option& option, std::vector<GivenOption>& given) {
  const std::string name(option.name);
  const std::string sentence(option.sentence);
  CLI::Option* flag = nullptr;
  if (is_switch(option)) {
    flag = app.add_flag_function(
        flags_of(name),
        [name, &given](int64_t count) {
          given.push_back({name, count > 0 ? "true" : "false"});
        },
        sentence);
    flag->check(CLI::IsMember({"true", "false", "1", "0"}, CLI::ignore_case));
  } else {
    flag = app.add_option_function<std::string>(
        flags_of(name),
        [name, &given](const std::string& value) {
          given.push_back({name, value});
        },
        sentence);
    flag->allow_extra_args(false);
  }
  flag->group(group_of(option.scope));
}

// "tpot:50" behind "--goodput ttft:200": one more bound, as other benchmarks spell a list of them.
bool is_next_bound(const std::vector<std::string>& words, const std::string& word) {
  if (words.size() < 2 || words[words.size() - 2] != "--goodput") return false;
  return word.starts_with("ttft:") || word.starts_with("tpot:") || word.starts_with("e2el:");
}

// "--switch false" is read as "--switch=false": only these two words are values of a switch.
std::vector<std::string> with_joined_words(int argc, const char* const* argv) {
  const auto names_switch = [](std::string word) {
    if (!word.starts_with("--")) return false;
    word.erase(0, 2);
    std::replace(word.begin(), word.end(), '-', '_');
    return std::ranges::any_of(all_options(), [&](const Option& option) {
      return option.name == word && is_switch(option);
    });
  };
  std::vector<std::string> words;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (!words.empty() && (word == "true" || word == "false") && names_switch(words.back())) {
      words.back() += "=" + word;
    } else if (is_next_bound(words, word)) {
      words.back() += "," + word;
    } else {
      words.push_back(word);
    }
  }
  return words;
}

void add_verb(CLI::App& app, const Verb& verb, CommandLine& command) {
  CLI::App* sub = app.add_subcommand(verb.name, verb.sentence);
  sub->add_option_function<std::string>(
         "model", [&command](const std::string& value) { command.model = value; }, verb.model)
      ->type_name("MODEL");
  for (const Option& option : all_options()) {
    // Refused or idle settings of the files are no flags.
    if (option.option_class != OptionClass::kDoesIt) continue;
    if (!option.verbs.empty() && !contains_word(option.verbs, verb.name)) continue;
    add_flag(*sub, option, command.given);
  }
  sub->callback([&command, name = verb.name] { command.verb = name; });
}

std::string verb_names() {
  std::string names;
  for (const Verb& verb : all_verbs())
    names += (names.empty() ? "" : ", ") + std::string(verb.name);
  return names;
}

bool is_flag_of(const Option& option, std::string_view verb) {
  return option.option_class == OptionClass::kDoesIt &&
         (option.verbs.empty() || contains_word(option.verbs, verb));
}

// Of a flag that the verb does not have: whose it is, why there is none, or what was meant.
std::string explain_flag(const std::string& flag, std::string_view verb) {
  std::string name = flag.substr(2);
  std::replace(name.begin(), name.end(), '-', '_');
  std::vector<std::string_view> names;
  for (const Option& option : all_options()) {
    if (is_flag_of(option, verb)) names.push_back(option.name);
    if (option.name != name) continue;
    if (option.option_class == OptionClass::kNotYet) {
      return format("{} is not supported yet. {}", flag, option.sentence);
    }
    if (option.option_class == OptionClass::kNoEffect) {
      return format("{} has no effect: {}. Leave it out.", flag, option.sentence);
    }
    if (is_flag_of(option, verb)) continue;
    std::string verbs(option.verbs);
    for (size_t at = 0; (at = verbs.find(' ', at)) != std::string::npos; at += 2) {
      verbs.replace(at, 1, ", ");
    }
    return format("{} is a flag of {}, not of {}.", flag, verbs, verb);
  }
  std::string text = format("{} is no flag of {}", flag, verb);
  if (const auto near = nearest_name(name, names)) {
    std::string dashes(*near);
    std::replace(dashes.begin(), dashes.end(), '_', '-');
    text += format("; did you mean --{}?", dashes);
  } else {
    text += '.';
  }
  return text + format(" `tidemill {} --help` lists them.", verb);
}

// What is wrong in words of ours, where the library's do not say what to do; else nothing.
std::optional<std::string> explain(const std::vector<std::string>& words) {
  if (words.empty()) {
    return "name a verb: " + verb_names() + ". `tidemill --help` says what each does.";
  }
  const std::string& verb = words.front();
  if (verb.starts_with('-')) return std::nullopt;
  if (std::ranges::none_of(all_verbs(), [&](const Verb& each) { return each.name == verb; })) {
    return format(
        "{} is no verb. The verbs are {}; a model is named behind one: tidemill serve MODEL.", verb,
        verb_names());
  }
  for (const std::string& word : words) {
    if (!word.starts_with("--")) continue;
    const std::string flag = word.substr(0, word.find('='));
    std::string name = flag.substr(2);
    std::replace(name.begin(), name.end(), '-', '_');
    const bool known = name.empty() || name == "help" ||
                       std::ranges::any_of(all_options(), [&](const Option& option) {
                         return option.name == name && is_flag_of(option, verb);
                       });
    if (!known) return explain_flag(flag, verb);
  }
  return std::nullopt;
}

}  // namespace

CommandLineResult parse_command_line(int argc, const char* const* argv) {
  CommandLine command;
  CLI::App app("Tidemill: a large-language-model server for the machines you have.", "tidemill");
  app.set_version_flag("--version", "tidemill " TIDEMILL_VERSION);
  app.require_subcommand(1);
  for (const Verb& verb : all_verbs()) add_verb(app, verb, command);
  const std::vector<std::string> words = with_joined_words(argc, argv);
  try {
    app.parse(std::vector<std::string>(words.rbegin(), words.rend()));  // as the library wants them
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) {
      if (const auto mistake = explain(words)) {
        std::fprintf(stderr, "tidemill: %s\n", mistake->c_str());
        return {.command = std::nullopt, .exit_code = 2};
      }
    }
    const int code = app.exit(error);  // prints help or the mistake
    return {.command = std::nullopt, .exit_code = code == 0 ? 0 : 2};
  }
  return {.command = std::move(command), .exit_code = 0};
}

}  // namespace tidemill
