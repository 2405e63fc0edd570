// Where values come from: the sources of options.h, applied from the weakest to the strongest.
#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <optional>
#include <stdexcept>

#include "base/check.h"
#include "base/properties.h"
#include "options.h"

extern char** environ;

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelPrefix = "option.";
constexpr const char* kPropertiesName = "serving.properties";

std::string upper(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  return out;
}

bool contains_word(std::string_view words, std::string_view word) {
  while (!words.empty()) {
    const size_t end = std::min(words.find(' '), words.size());
    if (words.substr(0, end) == word) return true;
    words.remove_prefix(std::min(end + 1, words.size()));
  }
  return false;
}

// Applies values to Settings, row by row; knows nothing about where they came from.
class Applier {
 public:
  explicit Applier(SettingsReport& report) : report_(report) {}

  // `source` is for messages: "serving.properties:3: option.dtype", "OPTION_DTYPE", "--dtype".
  void apply(const Option& option, std::string_view value, const std::string& source) {
    switch (option.option_class) {
      case OptionClass::kNoEffect:
        report_.notes.push_back(format("{} has no effect: {}", source, option.sentence));
        return;
      case OptionClass::kNotYet:
        if (trimmed(value).empty() || contains_word(option.off, trimmed(value))) return;
        throw std::runtime_error(format("{} is not supported yet. {}", source, option.sentence));
      case OptionClass::kDoesIt:
        if (const auto problem = assign(option.slot(report_.settings), option.allowed, value)) {
          throw std::runtime_error(format("{} {}. {}", source, *problem, option.sentence));
        }
        return;
    }
  }

  void unknown(std::string_view name, OptionScope scope, const std::string& source) {
    std::vector<std::string_view> names;
    for (const Option& option : all_options()) {
      if (option.scope == scope) names.push_back(option.name);
    }
    std::string text = format("{} is not a setting", source);
    if (const auto near = nearest_name(name, names)) text += format("; did you mean {}?", *near);
    report_.warnings.push_back(text);
  }

 private:
  SettingsReport& report_;
};

const Option* find_option(std::string_view name, OptionScope scope) {
  for (const Option& option : all_options()) {
    if (option.scope == scope && option.name == name) return &option;
  }
  return nullptr;
}

// PREFIX_NAME variables of one scope. Names are compared in capitals: OPTION_ENTRYPOINT is
// option.entryPoint.
void apply_prefixed(const Environment& environment, std::string_view prefix, OptionScope scope,
                    Applier& applier) {
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with(prefix)) continue;
    const std::string_view name = std::string_view(variable).substr(prefix.size());
    const auto options = all_options();
    const auto row = std::find_if(options.begin(), options.end(), [&](const Option& option) {
      return option.scope == scope && upper(option.name) == name;
    });
    if (row != options.end()) {
      applier.apply(*row, value, variable);
    } else {
      std::string lower(name);
      std::transform(lower.begin(), lower.end(), lower.begin(),
                     [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
      applier.unknown(lower, scope, variable);
    }
  }
}

void apply_dedicated(const Environment& environment, Applier& applier) {
  for (const Option& option : all_options()) {
    if (option.environment.empty()) continue;
    const auto found = environment.find(std::string(option.environment));
    if (found != environment.end()) applier.apply(option, found->second, found->first);
  }
}

void apply_properties(const fs::path& file, Applier& applier) {
  std::ifstream in(file, std::ios::binary);
  if (!in) throw std::runtime_error(format("{} cannot be read.", file.string()));
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  for (const Property& property : parse_properties(text, file.string())) {
    std::string_view name = property.key;
    OptionScope scope = OptionScope::kServer;
    if (name.starts_with(kModelPrefix)) {
      name.remove_prefix(kModelPrefix.size());
      scope = OptionScope::kModel;
    }
    const std::string source = format("{}:{}: {}", file.string(), property.line, property.key);
    if (const Option* option = find_option(name, scope)) {
      applier.apply(*option, property.value, source);
    } else {
      applier.unknown(name, scope, source);
    }
  }
}

void apply_command_line(const std::vector<GivenOption>& given, Applier& applier) {
  for (const GivenOption& item : given) {
    const auto options = all_options();
    const auto row = std::find_if(options.begin(), options.end(),
                                  [&](const Option& option) { return option.name == item.name; });
    CHECK(row != options.end(), "the command line passed on unknown setting {}", item.name);
    applier.apply(*row, item.value, "--" + item.name);
  }
}

bool is_model_folder(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path name = entry.path().filename();
    if (name == kPropertiesName || name == "config.json" || name == "engine.json") return true;
    if (name.extension() == ".gguf" || name.extension() == ".safetensors") return true;
  }
  return false;
}

// The one folder below `store` that holds a model; `store` itself when it is one.
fs::path model_in_store(const fs::path& store) {
  if (is_model_folder(store)) return store;
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(store, error)) {
    if (entry.is_directory() && is_model_folder(entry.path())) found.push_back(entry.path());
  }
  if (found.size() > 1) {
    throw std::runtime_error(
        format("{} holds {} models, and one is served. Name its folder: tidemill serve {}",
               store.string(), found.size(), found.front().string()));
  }
  return found.empty() ? fs::path() : found.front();
}

std::optional<std::string> given_model(const std::vector<GivenOption>& command_line) {
  std::optional<std::string> model;
  for (const GivenOption& item : command_line) {
    if (item.name == "model_id") model = item.value;
  }
  return model;
}

// NAME::ENGINE=FOLDER, NAME=FOLDER or FOLDER.
fs::path folder_of_load_models(ModelSettings& model, std::string_view text) {
  if (text.find(',') != std::string_view::npos) {
    throw std::runtime_error(
        "SERVING_LOAD_MODELS names several models, and one is served. Name one.");
  }
  const size_t equals = text.find('=');
  if (equals == std::string_view::npos) return fs::path(text);
  const std::string_view name = text.substr(0, std::min(text.find(':'), equals));
  if (model.model_name.empty()) model.model_name = std::string(name);
  return fs::path(text.substr(equals + 1));
}

// The folder whose serving.properties counts, and which is the model when nothing names another.
fs::path find_model_folder(Settings& settings, const std::vector<GivenOption>& command_line,
                           const fs::path& working_folder) {
  std::error_code error;
  if (const auto model = given_model(command_line)) {
    return fs::is_directory(*model, error) ? fs::path(*model) : fs::path();
  }
  if (!settings.load_models.empty()) {
    return folder_of_load_models(settings.model, settings.load_models);
  }
  if (is_model_folder(working_folder)) return working_folder;
  return model_in_store(settings.model_store.empty() ? "/opt/ml/model" : settings.model_store);
}

void take_apart_address(Settings& settings) {
  if (settings.inference_address.empty()) return;
  std::string_view rest = settings.inference_address;
  const std::string_view scheme = "http://";
  const auto refuse = [&] {
    throw std::runtime_error(format("inference_address is {}; it must be http://HOST:PORT.",
                                    settings.inference_address));
  };
  if (!rest.starts_with(scheme)) refuse();
  rest.remove_prefix(scheme.size());
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0) refuse();
  settings.server.host = std::string(rest.substr(0, colon));
  if (assign(&settings.server.port, between(0, 65535), rest.substr(colon + 1))) refuse();
}

// What the folder says when no setting does.
void fill_from_folder(SettingsReport& report) {
  ModelSettings& model = report.settings.model;
  const fs::path& folder = report.model_folder;
  if (model.model_id.empty()) {
    model.model_id = folder.string();
  } else if (!folder.empty() && fs::path(model.model_id).is_relative() &&
             !model.model_id.starts_with("script:") && fs::exists(folder / model.model_id)) {
    model.model_id = (folder / model.model_id).string();
  }
  if (model.model_name.empty() && !model.model_id.empty()) {
    const fs::path named = folder.empty() ? fs::path(model.model_id) : folder;
    const fs::path normal = fs::absolute(named).lexically_normal();
    model.model_name = (normal.has_filename() ? normal : normal.parent_path()).stem().string();
  }
}

}  // namespace

Environment process_environment() {
  Environment environment;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const size_t equals = text.find('=');
    if (equals == std::string_view::npos) continue;
    environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

SettingsReport read_settings(const std::vector<GivenOption>& command_line,
                             const Environment& environment, const fs::path& working_folder) {
  SettingsReport report;
  Applier applier(report);
  apply_prefixed(environment, "SERVING_", OptionScope::kServer, applier);
  apply_dedicated(environment, applier);
  apply_prefixed(environment, "OPTION_", OptionScope::kModel, applier);
  take_apart_address(report.settings);  // before the file and the command line name a port

  report.model_folder = find_model_folder(report.settings, command_line, working_folder);
  const fs::path properties = report.model_folder / kPropertiesName;
  if (!report.model_folder.empty() && fs::exists(properties)) {
    report.settings.inference_address.clear();
    apply_properties(properties, applier);
    take_apart_address(report.settings);
  }
  report.settings.inference_address.clear();
  apply_command_line(command_line, applier);
  take_apart_address(report.settings);
  fill_from_folder(report);
  if (report.settings.strict && !report.warnings.empty()) {
    throw std::runtime_error(report.warnings.front() + " (strict is on)");
  }
  return report;
}

}  // namespace tidemill
