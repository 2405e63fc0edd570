// Which folder holds the model when the command line names none, and what the model is called.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "settings/options.h"

namespace tidemill {

inline constexpr const char* kPropertiesName = "serving.properties";

// The folder whose serving.properties counts, and which is the model unless model_id names another.
// From load_models, else model_store, else the working folder when it holds a model, else
// /opt/ml/model; empty when there is none. Takes a name that load_models gives (into model_name,
// unless that is set). Throws std::runtime_error when several models are named or
// found.
std::filesystem::path find_model_folder(Settings& settings,
                                        const std::filesystem::path& working_folder);

// The name of a model that nobody named: of its folder, or of its file without the extension.
std::string default_model_name(const std::filesystem::path& model);

}  // namespace tidemill
