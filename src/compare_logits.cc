#include "compare_logits.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>

#include "base/check.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "checkpoint/safetensors.h"
#include "logits_runner.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

// One prompt of a reference: what was asked, and what came out.
struct Expectation {
  std::string name;
  std::vector<TokenId> ids;
  std::vector<TokenId> greedy_ids;
  std::vector<double> logprobs;  // of the greedy ids; may be absent
  std::vector<float> logits;     // [rows, V] of the last `rows` positions; may be absent
  size_t rows = 0;
};

struct Tolerances {
  double logits = 0.0;
  double logprobs = 0.0;
};

JsonValue read_json(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  auto json = parse_json(text, kFileJsonLimits);
  if (!json) throw std::runtime_error(format("{}: {}.", path.string(), json.error().message));
  return std::move(*json);
}

template <typename T>
std::vector<T> numbers(const JsonValue* list) {
  std::vector<T> out;
  if (list == nullptr) return out;
  for (const JsonValue& item : list->array()) out.push_back(static_cast<T>(item.number()));
  return out;
}

const StoredTensor* find(const std::vector<StoredTensor>& tensors, const std::string& name) {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const StoredTensor& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

void take_logits(Expectation& expected, const StoredTensor* tensor) {
  if (tensor == nullptr) return;
  expected.rows = tensor->shape.size() == 2 ? static_cast<size_t>(tensor->shape[0]) : 1;
  expected.logits.resize(expected.rows * static_cast<size_t>(tensor->shape.back()));
  read_rows(*tensor, 0, static_cast<int64_t>(expected.rows), expected.logits.data());
}

std::vector<Expectation> read_expectations(const fs::path& folder, Tolerances& tolerances,
                                           bool f32) {
  const bool tiny = fs::exists(folder / "expected.json");
  const JsonValue json = read_json(folder / (tiny ? "expected.json" : "greedy.json"));
  const fs::path file = folder / (tiny ? "expected.safetensors" : "logits.safetensors");
  const MappedFile mapped(file);
  const auto tensors = read_safetensors(mapped.bytes(), file.string());
  const JsonValue* largest = json.find("largest_logit");
  const double scale = largest != nullptr ? largest->number() : 40.0;
  tolerances = f32 ? Tolerances{tiny ? 2e-4 : 2e-3, 1e-3} : Tolerances{0.05 * scale, 0.3};
  const JsonValue& list = tiny ? *json.find("prompts") : json;
  std::vector<Expectation> expectations;
  for (const JsonValue& entry : list.array()) {
    const std::string name =
        tiny ? format("prompt{}", expectations.size()) : entry.find("name")->string();
    Expectation expected{.name = name,
                         .ids = numbers<TokenId>(entry.find("ids")),
                         .greedy_ids = numbers<TokenId>(entry.find("greedy_ids")),
                         .logprobs = numbers<double>(entry.find("logprobs"))};
    take_logits(expected, find(tensors, tiny ? name + ".logits" : name));
    if (expected.rows == 0) take_logits(expected, find(tensors, name + ".last_logits"));
    expectations.push_back(std::move(expected));
  }
  return expectations;
}

struct Differences {
  double logits = 0.0;
  double logprobs = 0.0;
  size_t equal_greedy = 0;  // before the first that differs
};

// Feeds the prompt and then the reference's own greedy ids: later differences do not depend on
// earlier ones.
Differences compare(LogitsRunner& runner, const Expectation& expected) {
  std::vector<TokenId> ids = expected.ids;
  ids.insert(ids.end(), expected.greedy_ids.begin(), expected.greedy_ids.end());
  ids.pop_back();
  const size_t prompt = expected.ids.size();
  Differences worst;
  bool same = true;
  runner.run(ids, 0, [&](int64_t position, std::span<const float> logits) {
    const auto at = static_cast<size_t>(position);
    if (at < prompt && at + expected.rows >= prompt) {
      const float* reference =
          expected.logits.data() + (at + expected.rows - prompt) * logits.size();
      for (size_t i = 0; i < logits.size(); ++i) {
        worst.logits = std::max(worst.logits, std::abs(double{logits[i]} - reference[i]));
      }
    }
    if (at + 1 < prompt) return;
    const size_t step = at + 1 - prompt;
    const TokenId wanted = expected.greedy_ids[step];
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    same = same && best == wanted;
    worst.equal_greedy += same;
    if (step < expected.logprobs.size()) {
      worst.logprobs = std::max(
          worst.logprobs, std::abs(log_probability(logits, wanted) - expected.logprobs[step]));
    }
  });
  return worst;
}

}  // namespace

int compare_with_reference(const Kernels& kernels, const Model& model, WorkerPool& workers,
                           const VerbArguments& arguments) {
  const bool f32 = model.activation_type() == DType::kF32;
  Tolerances tolerances;
  const auto expectations = read_expectations(arguments.reference, tolerances, f32);
  LogitsRunner runner(kernels, model, workers, model.architecture().max_positions);
  bool good = true;
  std::printf("%-20s %12s %12s   greedy\n", "prompt", "logits", "logprobs");
  for (const Expectation& expected : expectations) {
    const Differences found = compare(runner, expected);
    const bool all_greedy = found.equal_greedy == expected.greedy_ids.size();
    good = good && found.logits <= tolerances.logits && found.logprobs <= tolerances.logprobs &&
           (all_greedy || !f32);
    std::printf("%-20s %12.3g %12.3g   %zu of %zu\n", expected.name.c_str(), found.logits,
                found.logprobs, found.equal_greedy, expected.greedy_ids.size());
  }
  std::printf("%s (allowed: logits %.3g, log-probabilities %.3g%s)\n",
              good ? "within the tolerances" : "OUTSIDE the tolerances", tolerances.logits,
              tolerances.logprobs, f32 ? ", greedy ids equal" : "");
  return good ? 0 : 1;
}

}  // namespace tidemill
