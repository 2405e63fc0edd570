// Variants by types of keys and values, and a cache, for the tests of what fills and reads it.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>
#include <string>
#include <vector>

#include "kernels/test_tensors.h"

namespace tidemill::test {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

struct Case {
  const Kernels* kernels;
  DType type;
};

inline std::string name_of(const Case& test_case) {
  const char* type = test_case.type == DType::kF32    ? "_f32"
                     : test_case.type == DType::kBf16 ? "_bf16"
                                                      : "_int8";
  return label(*test_case.kernels) + type;
}

inline void PrintTo(const Case& test_case, std::ostream* out) { *out << name_of(test_case); }

inline std::vector<Case> cases() {
  std::vector<Case> all;
  for (const Kernels* kernels : runnable_implementations()) {
    all.push_back({kernels, DType::kF32});
    all.push_back({kernels, DType::kBf16});
    all.push_back({kernels, DType::kInt8});
  }
  return all;
}

inline float rounded(DType type, float value) {
  return type == DType::kF32 ? value : to_float(to_bf16(value));
}

// What queries have.
inline DType query_type(DType type) { return type == DType::kInt8 ? DType::kF32 : type; }

// The scale of int8 numbers, rounded up to bf16.
inline float scale_of(float largest) {
  const float scale = largest / 127.0f;
  const float nearest = to_float(to_bf16(scale));
  return nearest >= scale ? nearest
                          : to_float(Bf16{static_cast<uint16_t>(to_bf16(scale).bits + 1)});
}

// A cache whose every block is recycled: full of NaN. Sequences get scattered blocks.
class Cache {
 public:
  Cache(DType type, const AttentionShape& shape, int64_t num_blocks, float content)
      : memory_(DType::kF32, 1,
                static_cast<int64_t>(
                    kv_layer_bytes(type, shape.num_kv_heads, shape.head_dim, num_blocks)) /
                    4) {
    memory_.fill(content);
    layer_ = kv_layer(memory_.view().data, type, shape.num_kv_heads, shape.head_dim);
  }
  const KvLayer& layer() const { return layer_; }

 private:
  OwnedTensor memory_;
  KvLayer layer_;
};

// Rows of sequences, each of which has a table of its own.
class SequenceRows {
 public:
  // Rows first .. first + count of one more, whose first `shared` blocks are those of the first.
  void add(int32_t first, int32_t count, int32_t shared) {
    const auto begin = static_cast<int32_t>(block_ids_.size());
    for (int32_t i = 0; i < count; ++i) {
      positions_.push_back(first + i);
      table_begins_.push_back(begin);
    }
    num_blocks_ = std::max(num_blocks_, shared);
    for (int32_t b = 0; b <= (first + count - 1) / kTokensPerBlock; ++b) {
      block_ids_.push_back(b < shared ? b : num_blocks_++);
    }
  }

  TokenRows view() const {
    return {.count = static_cast<int64_t>(positions_.size()),
            .positions = positions_.data(),
            .table_begins = table_begins_.data(),
            .block_ids = block_ids_.data()};
  }
  int32_t num_blocks() const { return num_blocks_; }

 private:
  std::vector<int32_t> positions_, table_begins_, block_ids_;
  int32_t num_blocks_ = 0;
};

inline AttentionShape shape_of(int64_t head_dim, int64_t heads, int64_t kv_heads,
                               int64_t window = 0) {
  return {.num_heads = heads,
          .num_kv_heads = kv_heads,
          .head_dim = head_dim,
          .scale = 2.0f / std::sqrt(static_cast<float>(head_dim)),
          .window = window};
}

}  // namespace tidemill::test
