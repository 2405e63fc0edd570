#include "checkpoint/detect.h"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/log.h"
#include "checkpoint/checkpoint.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void refuse(const fs::path& path, std::string_view reason) {
  throw CheckpointError(format("{}: {}", path.string(), reason));
}

bool starts_with_gguf(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  char magic[4] = {};
  in.read(magic, sizeof magic);
  return in.gcount() == 4 && std::string_view(magic, 4) == "GGUF";
}

std::vector<fs::path> files_like(const fs::path& folder, std::string_view beginning,
                                 std::string_view ending) {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(beginning) && name.ends_with(ending)) found.push_back(entry.path());
  }
  std::sort(found.begin(), found.end());
  return found;
}

std::vector<fs::path> files_ending(const fs::path& folder, std::string_view ending) {
  return files_like(folder, "", ending);
}

bool has_pickles(const fs::path& folder) {
  for (const char* ending : {".bin", ".pt", ".pth"}) {
    if (!files_ending(folder, ending).empty()) return true;
  }
  return false;
}

[[noreturn]] void refuse_pickles(const fs::path& folder) {
  refuse(folder,
         "its weights are pickles, which can run code when they are read. Convert them "
         "to safetensors first: AutoModelForCausalLM.from_pretrained(FOLDER)"
         ".save_pretrained(NEW_FOLDER, safe_serialization=True).");
}

void refuse_adapter(const fs::path& folder) {
  if (!fs::exists(folder / "adapter_config.json")) return;
  refuse(folder, "this is an adapter. Merge it into its base model and name that folder.");
}

// The first part of the only GGUF model in a folder.
fs::path only_gguf(const fs::path& folder, std::vector<fs::path> files) {
  std::erase_if(files, [](const fs::path& file) {
    const std::string name = file.filename().string();
    return name.find("-of-") != std::string::npos && name.find("-00001-of-") == std::string::npos;
  });
  if (files.size() == 1) return files.front();
  std::string names;
  for (const fs::path& file : files) names += " " + file.filename().string();
  refuse(folder, format("it holds several GGUF models. Name one of:{}.", names));
}

// Folders of other systems, by what gives them away.
void refuse_foreign(const fs::path& folder) {
  const auto has = [&](const char* name) { return fs::exists(folder / name); };
  if (has("tensorrt_llm/config.pbtxt") || has("ensemble/config.pbtxt") || has("config.pbtxt")) {
    refuse(folder,
           "Triton model repositories are not read yet. Name the checkpoint they were "
           "built from.");
  }
  refuse_adapter(folder);
  if (!files_ending(folder, ".engine").empty()) {
    refuse(folder,
           "TensorRT-LLM engines are not read. Name the Hugging Face checkpoint that they were "
           "built from.");
  }
  if (has("model.bin") && (!files_like(folder, "vocabulary", "").empty() ||
                           !files_like(folder, "shared_vocabulary", "").empty())) {
    refuse(folder, "CTranslate2 models are not read. Name the checkpoint it was converted from.");
  }
  if (has("config.ini")) {
    refuse(folder,
           "FasterTransformer models are not read. Name the checkpoint it was converted "
           "from.");
  }
}

// A script beside the weights is how such a folder asks for other answers than the network's.
void refuse_handler(const fs::path& folder) {
  if (fs::exists(folder / "model.py")) {
    refuse(folder,
           "handler scripts (model.py) are not supported yet. Take model.py out of the folder to "
           "serve the checkpoint without it, or name a folder that holds a checkpoint alone.");
  }
  if (fs::exists(folder / "requirements.txt")) {
    log_warning("{}: requirements.txt is not installed: no Python runs here", folder.string());
  }
}

struct QuantMethod {
  std::string_view name;
  std::string_view shown;
};

constexpr QuantMethod kQuantMethods[] = {
    {"gptq", "GPTQ"},
    {"awq", "AWQ"},
    {"fp8", "FP8"},
    {"fbgemm_fp8", "FP8"},
    {"compressed-tensors", "compressed-tensors"},
    {"bitsandbytes", "bitsandbytes"},
};

[[noreturn]] void refuse_quantised(const fs::path& folder, std::string_view method) {
  refuse(folder, format("checkpoints quantised with {} are not read yet. Name the unquantised "
                        "checkpoint, or a GGUF file in Q8_0, Q4_0 or Q4_1.",
                        method));
}

std::string method_of(const JsonValue& quantization) {
  const JsonValue* method = quantization.find("quant_method");
  const std::string given = method != nullptr && method->is_string()
                                ? method->string().substr(0, 40)
                                : "an unknown method";
  std::string shown = given;
  for (const QuantMethod& known : kQuantMethods) {
    if (known.name == given) shown = known.shown;
  }
  return shown;
}

}  // namespace

FoundFormat detect_format(const fs::path& path) {
  if (fs::is_regular_file(path)) {
    if (starts_with_gguf(path)) return {.gguf = path};
    refuse(path, "this file is no GGUF. Name a GGUF file, or the folder of a checkpoint.");
  }
  if (!fs::is_directory(path)) refuse(path, "there is no such file or folder.");
  refuse_handler(path);
  const auto ggufs = files_ending(path, ".gguf");
  const bool has_safetensors = !files_ending(path, ".safetensors").empty();
  if (!ggufs.empty() && !has_safetensors) return {.gguf = only_gguf(path, ggufs)};
  if (fs::exists(path / "config.json")) {
    if (fs::exists(path / "model.safetensors") ||
        fs::exists(path / "model.safetensors.index.json")) {
      return {};
    }
    // Safetensors of other names may be the model, but not beside an adapter's description or the
    // model as pickles.
    refuse_adapter(path);
    if (!files_like(path, "pytorch_model", ".bin").empty()) refuse_pickles(path);
    if (has_safetensors) return {};
    refuse_foreign(path);
    if (has_pickles(path)) refuse_pickles(path);
    refuse(path, "it holds no weights: neither *.safetensors nor *.gguf.");
  }
  refuse_foreign(path);
  if (has_pickles(path)) {
    refuse(path, "original pickled weights are not read. Name the model's Hugging Face folder.");
  }
  refuse(path, "this is no checkpoint: there is no config.json and no *.gguf.");
}

void refuse_unsupported(const fs::path& folder, const JsonValue& config) {
  if (!config.is_object()) refuse(folder / "config.json", "it must hold a JSON object.");
  if (const JsonValue* q = config.find("quantization_config"); q != nullptr && q->is_object()) {
    refuse_quantised(folder, method_of(*q));
  }
  if (config.find("compression_config") != nullptr) {
    refuse_quantised(folder, "compressed-tensors");
  }
  for (const char* name : {"quantize_config.json", "quant_config.json"}) {
    if (fs::exists(folder / name)) {
      refuse(folder, format("{} says that it is quantised with GPTQ or AWQ, which is not read yet. "
                            "Name the unquantised checkpoint.",
                            name));
    }
  }
  if (config.find("builder_config") != nullptr || config.find("pretrained_config") != nullptr ||
      (config.find("architecture") != nullptr && config.find("architectures") == nullptr)) {
    refuse(folder,
           "TensorRT-LLM checkpoints and engines are not read yet. Name the Hugging Face "
           "checkpoint.");
  }
  if (const JsonValue* q = config.find("quantization"); q != nullptr && q->is_object()) {
    refuse_quantised(folder, "MLX");
  }
}

fs::path only_safetensors(const fs::path& folder) {
  if (fs::exists(folder / "model.safetensors")) return folder / "model.safetensors";
  const auto files = files_ending(folder, ".safetensors");
  if (files.size() == 1) return files.front();
  std::string names;
  for (const fs::path& file : files) names += " " + file.filename().string();
  refuse(folder, format("it holds several safetensors files and no index:{}. Keep the model's own, "
                        "or add model.safetensors.index.json.",
                        names));
}

}  // namespace tidemill
