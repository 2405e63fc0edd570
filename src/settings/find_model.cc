#include "settings/find_model.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "base/check.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDefaultStore = "/opt/ml/model";

bool is_model_folder(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const fs::path name = entry.path().filename();
    if (name == kPropertiesName || name == "config.json" || name == "engine.json") return true;
    if (name.extension() == ".gguf" || name.extension() == ".safetensors") return true;
  }
  return false;
}

// The one folder below `store` that holds a model; `store` itself when it is one. Which of several
// is only asked when nothing else names the model.
fs::path model_in_store(const Settings& settings, const fs::path& store) {
  if (is_model_folder(store)) return store;
  std::vector<fs::path> found;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(store, error)) {
    if (entry.path().filename().string().starts_with('.') || !entry.is_directory()) continue;
    if (is_model_folder(entry.path())) found.push_back(entry.path());
  }
  if (found.size() > 1 && !settings.model.model_id.empty()) return {};
  if (found.size() > 1) {
    std::sort(found.begin(), found.end());
    throw std::runtime_error(
        format("{} holds {} models, and one is served. Name its folder: tidemill serve {}",
               store.string(), found.size(), found.front().string()));
  }
  return found.empty() ? fs::path() : found.front();
}

// "file:/opt/ml/model" and "file:///opt/ml/model" are local paths.
std::string_view without_scheme(std::string_view url) {
  constexpr std::string_view kScheme = "file:";
  if (!url.starts_with(kScheme)) return url;
  url.remove_prefix(kScheme.size());
  if (url.starts_with("//")) url.remove_prefix(2);
  return url;
}

// NAME:VERSION:ENGINE:DEVICES=URL, the part before = in brackets or not, or URL alone.
fs::path folder_of_item(Settings& settings, std::string_view item) {
  std::string_view url = item;
  if (const size_t equals = item.find('='); equals != std::string_view::npos) {
    url = item.substr(equals + 1);
    std::string_view name = item.substr(0, equals);
    if (name.starts_with('[')) name.remove_prefix(1);
    if (name.ends_with(']')) name.remove_suffix(1);
    name = name.substr(0, name.find(':'));
    if (settings.model.model_name.empty()) settings.model.model_name = std::string(name);
  }
  const fs::path path = without_scheme(url);
  // A name alone is one of the store's.
  std::error_code error;
  const fs::path stored = fs::path(settings.model_store) / path;
  return path.is_relative() && !fs::exists(path, error) && fs::exists(stored, error) ? stored
                                                                                     : path;
}

}  // namespace

fs::path find_model_folder(Settings& settings, const fs::path& working_folder) {
  std::string list = settings.load_models;
  std::replace(list.begin(), list.end(), ',', ' ');
  const auto items = words_of(list);
  if (items.size() > 1) {
    throw std::runtime_error("load_models names several models, and one is served. Name one.");
  }
  if (items.size() == 1 && upper(items.front()) == "NONE") {
    if (!settings.model.model_id.empty()) return {};
    throw std::runtime_error(
        "load_models is NONE, and models are not loaded later. Name the model, or leave it out.");
  }
  if (items.size() == 1 && upper(items.front()) != "ALL") {
    return folder_of_item(settings, items.front());
  }
  if (!settings.model_store.empty()) return model_in_store(settings, settings.model_store);
  return is_model_folder(working_folder) ? working_folder : model_in_store(settings, kDefaultStore);
}

std::string default_model_name(const fs::path& model) {
  const fs::path normal = fs::absolute(model).lexically_normal();
  const fs::path last = normal.has_filename() ? normal : normal.parent_path();
  // "Qwen2.5-0.5B" is a folder or a hub's id, not a file of type "5B".
  std::error_code error;
  const bool file = fs::is_regular_file(last, error) || model.string().starts_with("script:");
  return (file ? last.stem() : last.filename()).string();
}

}  // namespace tidemill
