// For tests: a small random model on disk, so that what a request gets depends on its prompt, its
// seed and nothing else.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "model/load.h"

namespace tidemill {

inline constexpr int64_t kRandomModelLen = 256;
inline constexpr int32_t kRandomVocabSize = 61;

// An engine directory of random numbers; it disappears with this. Another seed, another model.
class RandomEngine {
 public:
  explicit RandomEngine(uint64_t seed)
      : dir_(std::filesystem::temp_directory_path() /
             ("tidemill-runner-" + std::to_string(::getpid()) + "-" + std::to_string(seed))),
        random_(seed) {
    std::filesystem::create_directories(dir_);
    Manifest manifest;
    manifest.format = PackedFormat::kF32;
    Architecture& a = manifest.architecture;
    a.family = "llama";
    a.hidden_size = 32;
    a.num_layers = 2;
    a.num_heads = a.num_kv_heads = 2;
    a.head_dim = 16;
    a.intermediate_size = 48;
    a.vocab_size = kRandomVocabSize;
    a.max_positions = kRandomModelLen;
    manifest.tensors = engine_tensors(a, manifest.format);
    std::string file(static_cast<size_t>(weights_file_bytes(manifest.tensors)), '\0');
    for (const EngineTensor& tensor : manifest.tensors) fill(tensor, file.data() + tensor.offset);
    std::ofstream(dir_ / kWeightsFileName, std::ios::binary) << file;
    write_manifest(dir_, manifest);
  }
  RandomEngine(const RandomEngine&) = delete;
  RandomEngine& operator=(const RandomEngine&) = delete;
  ~RandomEngine() { std::filesystem::remove_all(dir_); }
  const std::filesystem::path& dir() const { return dir_; }

 private:
  void fill(const EngineTensor& tensor, char* out) {
    const float scale = tensor.k == 0 ? 1.0f : 2.5f / std::sqrt(static_cast<float>(tensor.k));
    std::uniform_real_distribution<float> values(-scale, scale);
    std::vector<float> numbers(static_cast<size_t>(tensor.n * std::max<int64_t>(tensor.k, 1)));
    for (float& number : numbers) number = values(random_);
    if (tensor.k == 0) {
      std::memcpy(out, numbers.data(), numbers.size() * sizeof(float));
      return;
    }
    const size_t bytes = panel_bytes(tensor.format, tensor.k);
    for (int64_t panel = 0; panel < num_panels(tensor.n); ++panel) {
      const int64_t first = panel * kPanelChannels;
      pack_panel(tensor.format, tensor.k, numbers.data() + first * tensor.k,
                 std::min(kPanelChannels, tensor.n - first),
                 reinterpret_cast<unsigned char*>(out) + static_cast<size_t>(panel) * bytes);
    }
  }
  const std::filesystem::path dir_;
  std::mt19937_64 random_;
};

inline std::vector<TokenId> random_prompt(int length, int which) {
  std::vector<TokenId> ids;
  for (int i = 0; i < length; ++i) ids.push_back((i * i + 7 * which + 3) % kRandomVocabSize);
  return ids;
}

}  // namespace tidemill
