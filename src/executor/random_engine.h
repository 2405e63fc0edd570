// For tests: a small random model on disk, so that what a request gets depends on its prompt, its
// seed and nothing else.
#pragma once

#include <cstdint>
#include <vector>

#include "model/random_engine_dir.h"

namespace tidemill {

inline constexpr int64_t kRandomModelLen = 256;
inline constexpr int32_t kRandomVocabSize = 61;

// An engine directory of random numbers; it disappears with this. Another seed, another model.
class RandomEngine : public RandomEngineDir {
 public:
  explicit RandomEngine(uint64_t seed, int64_t window = 0, int32_t vocab_size = kRandomVocabSize)
      : RandomEngineDir(architecture(window, vocab_size), PackedFormat::kF32, seed,
                        /*gain=*/2.5f) {}

 private:
  static Architecture architecture(int64_t window, int32_t vocab_size) {
    Architecture a;
    a.family = "llama";
    a.hidden_size = 32;
    a.num_layers = 2;
    a.num_heads = a.num_kv_heads = 2;
    a.head_dim = 16;
    a.intermediate_size = 48;
    a.vocab_size = vocab_size;
    a.max_positions = kRandomModelLen;
    a.sliding_window = window;
    return a;
  }
};

inline std::vector<TokenId> random_prompt(int length, int which) {
  std::vector<TokenId> ids;
  for (int i = 0; i < length; ++i) ids.push_back((i * i + 7 * which + 3) % kRandomVocabSize);
  return ids;
}

}  // namespace tidemill
