// Where values come from: the sources of options.h, applied from the weakest to the strongest.
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "base/ascii.h"
#include "base/check.h"
#include "base/properties.h"
#include "base/text_file.h"
#include "settings/find_model.h"
#include "settings/options.h"

extern char** environ;

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kModelPrefix = "option.";

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

// Also a variable with the prefix may be a name of a row's own: OPTION_ENGINE is `engine`.
bool is_dedicated(std::string_view variable) {
  return std::ranges::any_of(all_options(), [&](const Option& option) {
    return contains_word(option.environment, variable);
  });
}

// PREFIX_NAME variables of one scope. Names are compared in capitals: OPTION_ENTRYPOINT is
// option.entryPoint.
void apply_prefixed(const Environment& environment, std::string_view prefix, OptionScope scope,
                    Applier& applier) {
  for (const auto& [variable, value] : environment) {
    if (!variable.starts_with(prefix) || is_dedicated(variable)) continue;
    const std::string_view name = std::string_view(variable).substr(prefix.size());
    const auto options = all_options();
    const auto row = std::ranges::find_if(options, [&](const Option& option) {
      return option.scope == scope && upper(option.name) == name;
    });
    if (row != options.end()) {
      applier.apply(*row, value, variable);
    } else {
      applier.unknown(ascii_lower(name), scope, variable);
    }
  }
}

void apply_dedicated(const Environment& environment, Applier& applier) {
  for (const Option& option : all_options()) {
    for (const std::string_view name : words_of(option.environment)) {
      const auto found = environment.find(std::string(name));
      if (found != environment.end()) applier.apply(option, found->second, found->first);
    }
  }
}

void apply_properties(const fs::path& file, Applier& applier) {
  for (const Property& property : parse_properties(read_text_file(file), file.string())) {
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

// The flags, or of them only those that are named.
void apply_flags(const CommandLine& command, Applier& applier, std::string_view names = {}) {
  for (const GivenOption& item : command.given) {
    if (!names.empty() && !contains_word(names, item.name)) continue;
    const auto options = all_options();
    // A name may have two rows that are flags of different verbs.
    const auto row = std::ranges::find_if(options, [&](const Option& option) {
      return option.name == item.name && option.option_class == OptionClass::kDoesIt &&
             (option.verbs.empty() || contains_word(option.verbs, command.verb));
    });
    CHECK(row != options.end(), "the command line passed on unknown setting {}", item.name);
    applier.apply(*row, item.value, "--" + item.name);
  }
}

void take_apart_address(Settings& settings) {
  if (settings.inference_address.empty()) return;
  std::string_view rest = settings.inference_address;
  const auto refuse = [&](std::string_view way_out = "") {
    throw std::runtime_error(
        format("inference_address is {}; it must be http://HOST:PORT or https://HOST:PORT.{}",
               settings.inference_address, way_out));
  };
  if (rest.starts_with("unix:")) {
    refuse(" Sockets of files are not supported: listen on 127.0.0.1, which others cannot reach.");
  }
  const std::string_view scheme = rest.substr(0, std::min(rest.find("://"), rest.size()));
  if (scheme != "http" && scheme != "https") refuse();
  settings.inference_scheme = scheme;
  rest.remove_prefix(std::min(scheme.size() + 3, rest.size()));
  const size_t colon = rest.rfind(':');
  if (colon == std::string_view::npos || colon == 0) refuse();
  settings.server.host = std::string(rest.substr(0, colon));
  if (assign(&settings.server.port, between(0, 65535), rest.substr(colon + 1))) refuse();
}

void check_tls(const Settings& settings) {
  const TlsOptions& tls = settings.server.tls;
  const bool has_certificate = !tls.certificate_file.empty();
  if (has_certificate != !tls.private_key_file.empty()) {
    throw std::runtime_error(
        "certificate_file and private_key_file belong together: name both, or none.");
  }
  if (settings.inference_scheme == "https" && !has_certificate) {
    throw std::runtime_error(
        "inference_address begins with https: name certificate_file and private_key_file, too.");
  }
  if (settings.inference_scheme == "http" && has_certificate) {
    throw std::runtime_error(
        "certificate_file is set and inference_address begins with http: make it https.");
  }
}

// Finds the folder whose serving.properties counts, and reads that. Returns what the model is when
// no setting names it.
std::string apply_folder(SettingsReport& report, const CommandLine& command, Applier& applier,
                         const fs::path& working_folder) {
  Settings& settings = report.settings;
  const auto read_file = [&] {
    const fs::path file = report.model_folder / kPropertiesName;
    if (report.model_folder.empty() || !fs::exists(file)) return;
    settings.inference_address.clear();
    apply_properties(file, applier);
    take_apart_address(settings);
  };
  std::error_code error;
  if (command.model.empty()) {
    report.model_folder = find_model_folder(settings, working_folder);
  } else {
    settings.model.model_id.clear();  // the environment's
    if (fs::is_directory(command.model, error)) report.model_folder = command.model;
  }
  const std::string store = settings.model_store;
  const std::string load = settings.load_models;
  read_file();
  const bool names_another = settings.model_store != store || settings.load_models != load;
  if (!settings.model.model_id.empty() || !names_another) {
    return command.model.empty() ? report.model_folder.string() : command.model;
  }
  // The file says where models are instead of naming one.
  const fs::path first = std::exchange(report.model_folder, find_model_folder(settings, "/"));
  if (report.model_folder != first) read_file();
  return report.model_folder.string();
}

// What the folder says when no setting does.
void fill_from_folder(SettingsReport& report, const std::string& implied_model) {
  ModelSettings& model = report.settings.model;
  const fs::path& folder = report.model_folder;
  const auto find_in_folder = [&](std::string& name) {
    if (name.empty() || folder.empty() || name.starts_with("script:")) return;
    if (fs::path(name).is_relative() && fs::exists(folder / name)) name = (folder / name).string();
  };
  if (model.model_id.empty()) {
    model.model_id = implied_model;
  } else {
    find_in_folder(model.model_id);
  }
  find_in_folder(model.draft_model);
  if (model.model_name.empty() && !model.model_id.empty()) {
    const bool of_folder = model.model_id == implied_model || fs::exists(folder / kPropertiesName);
    model.model_name =
        default_model_name(of_folder && !folder.empty() ? folder : fs::path(model.model_id));
  }
}

// Nobody waits for an offline verb's prompts in a queue, and no client's patience ends. No answer
// is paused either: the verb reads its streams one after the other, and the one that it waits for
// might wait for the blocks of one that it does not read yet.
void lift_server_limits(ExecutorOptions& executor) {
  constexpr int64_t kYearMs = int64_t{365} * 24 * 3600 * 1000;
  executor.queue_timeout_ms = kYearMs;
  executor.request_timeout_ms = kYearMs;
  executor.job_queue_size = std::numeric_limits<int32_t>::max();
  executor.stream_pause_bytes = std::numeric_limits<int64_t>::max();
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

SettingsReport read_settings(const CommandLine& command, const Environment& environment,
                             const fs::path& working_folder) {
  SettingsReport report;
  Settings& settings = report.settings;
  Applier applier(report);
  apply_prefixed(environment, "SERVING_", OptionScope::kServer, applier);
  apply_dedicated(environment, applier);
  apply_prefixed(environment, "OPTION_", OptionScope::kModel, applier);
  take_apart_address(settings);  // before the file and the command line name a port

  for (const GivenOption& item : command.given) report.flags.push_back(item.name);
  apply_flags(command, applier, "model_id model_store load_models url");  // where the file is
  if (!settings.verb.load.url.empty()) {
    // bench --url: the model is a name; no folder and no file of this machine says a word.
    apply_flags(command, applier);
    settings.model.model_id = command.model;
    return report;
  }
  const std::string implied = apply_folder(report, command, applier, working_folder);
  settings.inference_address.clear();
  apply_flags(command, applier);
  take_apart_address(settings);
  fill_from_folder(report, implied);
  if (command.verb == "serve") check_tls(settings);
  if (command.verb != "serve") lift_server_limits(settings.executor);
  if (settings.strict && !report.warnings.empty()) {
    throw std::runtime_error(report.warnings.front() + " (strict is on)");
  }
  return report;
}

}  // namespace tidemill
