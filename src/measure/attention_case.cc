#include "measure/attention_case.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/check.h"
#include "model/kv_cache.h"

namespace tidemill {
namespace {

constexpr int kSmallNumber = 0x3c;  // two or four of these bytes are a bf16, an f32 of some 0.01
constexpr float kCosine = 0.8f;
constexpr float kSine = 0.6f;

int64_t blocks_of(int64_t context) { return (context - 1) / kTokensPerBlock + 1; }

AttentionShape shape_of(const Architecture& a) {
  return {.num_heads = a.num_heads,
          .num_kv_heads = a.num_kv_heads,
          .head_dim = a.head_dim,
          .scale = 1.0f / std::sqrt(static_cast<float>(a.head_dim)),
          .window = a.sliding_window};
}

// What the product that follows reads, or f32 that is rounded for it.
DType out_type(const Model& model) {
  return model.compute_types().integer_parts > 0 ? DType::kF32 : model.compute_types().floats;
}

}  // namespace

int64_t AttentionCase::layer_bytes(const Model& model, int64_t sequences, int64_t context) {
  const Architecture& a = model.architecture();
  return static_cast<int64_t>(kv_layer_bytes(model.compute_types().cache(), a.num_kv_heads,
                                             a.head_dim, sequences * blocks_of(context)));
}

AttentionCase::AttentionCase(const Kernels& kernels, const Model& model, int64_t sequences,
                             int64_t context, Buffer& arena, std::mt19937_64& random)
    : shape_(shape_of(model.architecture())),
      qkv_(kernels, DType::kF32, sequences, model.architecture().qkv_size(), random),
      q_(kernels, model.compute_types().queries(), sequences, shape_.num_heads * shape_.head_dim,
         random),
      out_(kernels, out_type(model), sequences, shape_.num_heads * shape_.head_dim, random),
      cos_(static_cast<size_t>(context * shape_.head_dim / 2), kCosine),
      sin_(cos_.size(), kSine),
      q_norm_(model.layers().front().q_norm),
      k_norm_(model.layers().front().k_norm),
      norm_epsilon_(model.architecture().norm_epsilon) {
  const int64_t table = blocks_of(context);
  block_ids_.resize(static_cast<size_t>(sequences * table));
  std::iota(block_ids_.begin(), block_ids_.end(), 0);
  std::shuffle(block_ids_.begin(), block_ids_.end(), random);
  for (int64_t i = 0; i < sequences; ++i) {
    positions_.push_back(static_cast<int32_t>(context - 1));
    table_begins_.push_back(static_cast<int32_t>(i * table));
  }
  const int64_t bytes = layer_bytes(model, sequences, context);
  const int64_t count = static_cast<int64_t>(arena.bytes()) / bytes;
  CHECK(count > 0, "{} bytes of keys and values in {}", bytes, arena.bytes());
  std::memset(arena.data(), kSmallNumber, static_cast<size_t>(count * bytes));
  for (int64_t i = 0; i < count; ++i) {
    layers_.push_back(kv_layer(static_cast<unsigned char*>(arena.data()) + i * bytes,
                               model.compute_types().cache(), shape_.num_kv_heads,
                               shape_.head_dim));
  }
  const int64_t seen = shape_.window == 0 ? context : std::min(context, shape_.window);
  const size_t block_bytes =
      kv_block_bytes(model.compute_types().cache(), shape_.num_kv_heads, shape_.head_dim);
  bytes_ = static_cast<double>(block_bytes) / kTokensPerBlock * static_cast<double>(sequences) *
           static_cast<double>(seen);
  operations_ = 4.0 * model.compute_types().attention_parts() *
                static_cast<double>(sequences * seen * shape_.num_heads * shape_.head_dim);
  memory_ =
      kernels.allocate(static_cast<size_t>(attention_memory_bytes(shape_, sequences, context)));
}

TokenRows AttentionCase::rows() const {
  return {.count = q_.view().rows,
          .positions = positions_.data(),
          .table_begins = table_begins_.data(),
          .block_ids = block_ids_.data()};
}

AttentionMemory AttentionCase::memory() {
  return {memory_.data(), static_cast<int64_t>(memory_.bytes())};
}

const KvLayer& AttentionCase::layer(int64_t call) const {
  return layers_[(next_ + static_cast<size_t>(call)) % layers_.size()];
}

void AttentionCase::pass(int64_t calls) {
  next_ = (next_ + static_cast<size_t>(calls)) % layers_.size();
}

void AttentionCase::plan(const Kernels& kernels, WorkerPool& workers, int64_t calls) {
  workers.run([&](Lane& lane) {
    for (int64_t i = 0; i < calls; ++i) kernels.plan_attention(lane, shape_, rows(), memory());
  });
}

void AttentionCase::rotate_and_store(const Kernels& kernels, WorkerPool& workers, int64_t calls) {
  const Rotary rotary{.cos = cos_.data(),
                      .sin = sin_.data(),
                      .q_norm = q_norm_,
                      .k_norm = k_norm_,
                      .norm_epsilon = norm_epsilon_};
  workers.run([&](Lane& lane) {
    for (int64_t i = 0; i < calls; ++i) {
      kernels.rotate_and_store(lane, qkv_.view(), shape_, rotary, rows(), q_.view(), layer(i));
    }
  });
  pass(calls);
}

void AttentionCase::run(const Kernels& kernels, WorkerPool& workers, int64_t calls) {
  workers.run([&](Lane& lane) {
    kernels.plan_attention(lane, shape_, rows(), memory());
    for (int64_t i = 0; i < calls; ++i) {
      kernels.attention(lane, q_.view(), shape_, rows(), layer(i), memory(), out_.view());
    }
  });
  pass(calls);
}

}  // namespace tidemill
