#include "command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <deque>

#include "base/check.h"

namespace tidemill {
namespace {

struct Verb {
  const char* name;
  const char* sentence;
  const char* model;  // what the positional argument is; null: the verb needs none
};

constexpr Verb kVerbs[] = {
    {"serve", "Serve a model over HTTP.", "Folder, GGUF file or engine directory"},
    {"compile", "Compile a checkpoint into an engine directory.", "Folder or GGUF file"},
    {"generate", "Continue a prompt, or every prompt of a JSONL file.", "Folder or GGUF file"},
    {"chat", "Talk to a model in the terminal.", "Folder or GGUF file"},
    {"bench", "Measure prefill and decode, beside the machine's bandwidth.", "Folder or GGUF file"},
    {"eval", "Perplexity of a text; logits against a stored reference.", "Folder or GGUF file"},
    {"inspect", "What this machine can run, and what a model holds.", "Folder, file or engine"},
};

bool reads(std::string_view verb, const Option& option) {
  if (option.scope != OptionScope::kVerb || option.verbs.empty()) return true;
  std::string_view words = option.verbs;
  while (!words.empty()) {
    const size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == verb) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

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

// One flag; its values are appended to `given` in the order of the command line.
void add_flag(CLI::App& app, const Option& option, std::vector<GivenOption>& given) {
  const std::string name(option.name);
  CLI::Option* flag = app.add_option_function<std::string>(
      flags_of(name),
      [name, &given](const std::string& value) {
        given.push_back({name, value});
      },
      std::string(option.sentence));
  flag->group(group_of(option.scope))->allow_extra_args(false);
  // A switch may stand alone: --strict means --strict true.
  if (is_switch(option)) flag->expected(0, 1)->default_str("true");
}

void add_verb(CLI::App& app, const Verb& verb, CommandLine& command) {
  CLI::App* sub = app.add_subcommand(verb.name, verb.sentence);
  sub->add_option_function<std::string>(
         "model",
         [&command](const std::string& value) {
           command.given.push_back({"model_id", value});
         },
         verb.model)
      ->type_name("MODEL");
  for (const Option& option : all_options()) {
    // Refused or idle settings of the files are no flags.
    if (option.option_class != OptionClass::kDoesIt || !reads(verb.name, option)) continue;
    add_flag(*sub, option, command.given);
  }
  sub->callback([&command, name = verb.name] { command.verb = name; });
}

}  // namespace

CommandLineResult parse_command_line(int argc, const char* const* argv) {
  CommandLine command;
  CLI::App app("Tidemill: a large-language-model server for the machines you have.", "tidemill");
  app.set_version_flag("--version", "tidemill " TIDEMILL_VERSION);
  app.require_subcommand(1);
  for (const Verb& verb : kVerbs) add_verb(app, verb, command);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);  // prints help or the mistake
    return {.command = std::nullopt, .exit_code = code == 0 ? 0 : 2};
  }
  return {.command = std::move(command), .exit_code = 0};
}

}  // namespace tidemill
