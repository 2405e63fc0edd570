#include "reference_outputs.h"

#include <algorithm>
#include <stdexcept>

#include "base/check.h"
#include "base/json.h"
#include "base/text_file.h"
#include "checkpoint/safetensors.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// Reads one folder; its members are what every message needs.
class Reader {
 public:
  Reader(const fs::path& folder, const Architecture& architecture)
      : precise_(fs::exists(folder / "expected.json")),
        json_path_(folder / (precise_ ? "expected.json" : "greedy.json")),
        tensors_path_(folder / (precise_ ? "expected.safetensors" : "logits.safetensors")),
        architecture_(architecture),
        source_(tensors_path_),
        tensors_(read_safetensors(source_)) {}

  ReferenceOutputs read() const {
    const JsonValue json = read_json();
    ReferenceOutputs outputs{.precise = precise_};
    if (const JsonValue* largest = json.find("largest_logit"); largest && largest->is_number()) {
      outputs.largest_logit = largest->number();
    }
    const JsonValue* list = precise_ ? json.find("prompts") : &json;
    if (list == nullptr || !list->is_array() || list->array().empty()) {
      refuse(precise_ ? "prompts must be a list of prompts" : "must be a list of prompts");
    }
    for (const JsonValue& entry : list->array()) {
      outputs.prompts.push_back(read_prompt(entry, outputs.prompts.size()));
    }
    return outputs;
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw std::runtime_error(format("{}: {}.", json_path_.string(), what));
  }

  JsonValue read_json() const {
    auto json = parse_json(read_text_file(json_path_), kFileJsonLimits);
    if (!json) refuse(json.error().message);
    return std::move(*json);
  }

  ReferencePrompt read_prompt(const JsonValue& entry, size_t index) const {
    ReferencePrompt prompt{.name = format("prompt{}", index)};
    if (!precise_) {
      const JsonValue* name = entry.find("name");
      if (name == nullptr || !name->is_string()) refuse(prompt.name + " has no name");
      prompt.name = name->string();
    }
    prompt.ids = ids(entry, "ids", prompt.name);
    prompt.greedy_ids = ids(entry, "greedy_ids", prompt.name);
    prompt.logprobs = numbers(entry, "logprobs", prompt.name);
    if (prompt.ids.empty()) refuse(prompt.name + " has no ids");
    take_logits(prompt, precise_ ? prompt.name + ".logits" : prompt.name);
    if (prompt.rows == 0) take_logits(prompt, prompt.name + ".last_logits");
    if (prompt.rows == 0 && prompt.greedy_ids.empty()) {
      refuse(format("{} has neither greedy_ids nor logits in {}", prompt.name,
                    tensors_path_.filename().string()));
    }
    if (prompt.num_tokens() > architecture_.max_positions) {
      refuse(format("{} takes {} tokens; this model was made for {} positions", prompt.name,
                    prompt.num_tokens(), architecture_.max_positions));
    }
    return prompt;
  }

  // The list of that name; null when there is none.
  const JsonArray* list(const JsonValue& entry, const char* key, const std::string& name) const {
    const JsonValue* value = entry.find(key);
    if (value == nullptr || value->is_null()) return nullptr;
    if (!value->is_array()) refuse(format("{} of {} must be a list", key, name));
    return &value->array();
  }

  std::vector<TokenId> ids(const JsonValue& entry, const char* key, const std::string& name) const {
    std::vector<TokenId> out;
    const JsonArray* values = list(entry, key, name);
    if (values == nullptr) return out;
    for (const JsonValue& value : *values) {
      if (!value.is_integer() || !value.fits_int64() || value.integer() < 0 ||
          value.integer() >= architecture_.vocab_size) {
        refuse(format("{} of {} must hold ids of this model's vocabulary (0 to {})", key, name,
                      architecture_.vocab_size - 1));
      }
      out.push_back(static_cast<TokenId>(value.integer()));
    }
    return out;
  }

  std::vector<double> numbers(const JsonValue& entry, const char* key,
                              const std::string& name) const {
    std::vector<double> out;
    const JsonArray* values = list(entry, key, name);
    if (values == nullptr) return out;
    for (const JsonValue& value : *values) {
      if (!value.is_number()) refuse(format("{} of {} must hold numbers", key, name));
      out.push_back(value.number());
    }
    return out;
  }

  void take_logits(ReferencePrompt& prompt, const std::string& tensor_name) const {
    const auto found = std::find_if(tensors_.begin(), tensors_.end(),
                                    [&](const auto& tensor) { return tensor.name == tensor_name; });
    if (found == tensors_.end()) return;
    const std::vector<int64_t>& shape = found->shape;
    const bool matrix = shape.size() == 2;
    const int64_t rows = matrix ? shape[0] : 1;
    if ((shape.size() != 1 && !matrix) || shape.back() != architecture_.vocab_size || rows < 1 ||
        rows > static_cast<int64_t>(prompt.ids.size())) {
      throw std::runtime_error(
          format("{}: {} must have {} columns, this model's vocabulary, and at most a row for each "
                 "of the prompt's {} ids.",
                 tensors_path_.string(), tensor_name, architecture_.vocab_size, prompt.ids.size()));
    }
    prompt.rows = static_cast<size_t>(rows);
    prompt.logits.resize(prompt.rows * static_cast<size_t>(shape.back()));
    read_rows(*found, 0, rows, prompt.logits.data());
  }

  const bool precise_;
  const fs::path json_path_;
  const fs::path tensors_path_;
  const Architecture& architecture_;
  const SourceFile source_;
  const std::vector<StoredTensor> tensors_;
};

}  // namespace

int64_t ReferencePrompt::num_tokens() const {
  const size_t answers = greedy_ids.empty() ? 0 : greedy_ids.size() - 1;
  return static_cast<int64_t>(ids.size() + answers);
}

int64_t ReferenceOutputs::longest() const {
  int64_t longest = 0;
  for (const ReferencePrompt& prompt : prompts) longest = std::max(longest, prompt.num_tokens());
  return longest;
}

ReferenceOutputs read_reference_outputs(const fs::path& folder, const Architecture& architecture) {
  return Reader(folder, architecture).read();
}

}  // namespace tidemill
