// For tests: compiles a checkpoint, runs it as one sequence, and compares with stored logits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "compiler/compile.h"
#include "compiler/test_checkpoint.h"
#include "kernels/select.h"
#include "model/decoder.h"

namespace tidemill {

// Where the reference outputs are that are too large for the repository; tests skip without them.
inline std::filesystem::path reference_dir() {
  const char* given = std::getenv("TIDEMILL_SHARED");
  const std::filesystem::path shared =
      given != nullptr ? std::filesystem::path(given)
                       : std::filesystem::path(TIDEMILL_SOURCE_DIR).parent_path() / "shared";
  return shared / "reference";
}

inline JsonValue read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  Result<JsonValue> value = parse_json(text.str(), kFileJsonLimits);
  if (!value) throw std::runtime_error(path.string() + ": " + value.error().message);
  return std::move(*value);
}

inline std::vector<TokenId> ids_of(const JsonValue& list) {
  std::vector<TokenId> ids;
  for (const JsonValue& id : list.array()) ids.push_back(static_cast<TokenId>(id.integer()));
  return ids;
}

// The tensors of a lone .safetensors file.
class StoredLogits {
 public:
  explicit StoredLogits(const std::filesystem::path& path)
      : file_(path), tensors_(read_safetensors(file_)) {}

  // All values of a tensor, row after row.
  std::vector<float> values(std::string_view name) const {
    const auto tensor = std::ranges::find(tensors_, name, &StoredTensor::name);
    if (tensor == tensors_.end()) throw std::runtime_error(std::string(name) + " is missing");
    const int64_t rows = tensor->shape.size() == 1 ? 1 : tensor->shape[0];
    std::vector<float> values(static_cast<size_t>(rows * tensor->shape.back()));
    read_rows(*tensor, 0, rows, values.data());
    return values;
  }

 private:
  SourceFile file_;
  std::vector<StoredTensor> tensors_;
};

// A checkpoint, compiled into a temporary folder.
class CompiledModel {
 public:
  // nullopt: as the tensors are stored.
  CompiledModel(const std::filesystem::path& checkpoint, const std::optional<PackedFormat>& format,
                WorkerPool& pool, const ModelOptions& options = {})
      : model_(compile(checkpoint, format, dir_.path() / "engine", pool), options) {}
  const Model& model() const { return model_; }

 private:
  static std::filesystem::path compile(const std::filesystem::path& path,
                                       const std::optional<PackedFormat>& format,
                                       const std::filesystem::path& target, WorkerPool& pool) {
    const Checkpoint checkpoint = Checkpoint::open(path);
    compile_model(checkpoint, {.format = format, .source_digest = "-", .source_name = "-"}, target,
                  pool, [](const std::string&, int) {});
    return target;
  }
  TemporaryDir dir_;
  Model model_;
};

// One sequence on its own KV cache, whose blocks are taken in falling order.
class SequenceRun {
 public:
  SequenceRun(const Kernels& kernels, const Model& model, WorkerPool& pool, int64_t max_tokens)
      : pool_(pool),
        num_blocks_((max_tokens + kTokensPerBlock - 1) / kTokensPerBlock),
        cache_(kernels, model.architecture(), model.compute_types().cache(), num_blocks_),
        decoder_(kernels, model, cache_, communicator_,
                 {.max_model_len = max_tokens,
                  .max_step_tokens = max_tokens,
                  .max_score_rows = max_tokens}) {}

  // Feeds the next tokens in one step; logits of the last `num_scored` of them, row after row.
  std::vector<float> feed(std::span<const TokenId> ids, int64_t num_scored) {
    ForwardInput input;
    input.groups.resize(1);
    for (size_t i = 0; i < ids.size(); ++i) {
      input.token_ids.push_back(ids[i]);
      input.positions.push_back(static_cast<int32_t>(position_++));
      input.groups[0].table_begins.push_back(0);
    }
    for (int64_t i = num_blocks_; i > 0; --i) {
      input.groups[0].block_ids.push_back(static_cast<int32_t>(i - 1));
    }
    const auto rows = static_cast<int64_t>(ids.size());
    for (int64_t i = rows - num_scored; i < rows; ++i) {
      input.score_rows.push_back(static_cast<int32_t>(i));
    }
    pool_.run([&](Lane& lane) { decoder_.forward(lane, input); });
    return copy_logits();
  }

  // The likeliest continuation, one token per step, after `logits` of the last prompt token.
  // `observe`, where given, sees every step's logits.
  std::vector<TokenId> greedy(std::vector<float> logits, size_t steps,
                              const std::function<void(std::span<const float>)>& observe = {}) {
    std::vector<TokenId> ids;
    while (true) {
      if (observe) observe(logits);
      ids.push_back(
          static_cast<TokenId>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      if (ids.size() == steps) return ids;
      logits = feed(std::span(ids).last(1), 1);
    }
  }

 private:
  std::vector<float> copy_logits() const {
    const Tensor logits = decoder_.logits();
    std::vector<float> values;
    for (int64_t row = 0; row < logits.rows; ++row) {
      const float* begin = static_cast<const float*>(logits.data) + row * logits.stride;
      values.insert(values.end(), begin, begin + logits.cols);
    }
    return values;
  }

  WorkerPool& pool_;
  const int64_t num_blocks_;
  KvCache cache_;
  Communicator communicator_;
  Decoder decoder_;
  int64_t position_ = 0;
};

inline float largest_difference(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size()) return INFINITY;
  float largest = 0.0f;
  for (size_t i = 0; i < a.size(); ++i) {
    const float difference = std::abs(a[i] - b[i]);
    if (!(difference <= largest)) largest = difference;  // a NaN stays
  }
  return largest;
}

}  // namespace tidemill
