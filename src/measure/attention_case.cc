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

int64_t blocks_of(int64_t context) { return (context - 1) / kTokensPerBlock + 1; }

int64_t layer_bytes(const Model& model, int64_t sequences, int64_t context) {
  const Architecture& a = model.architecture();
  return sequences * blocks_of(context) *
         (kv_bytes_per_block(a, model.compute_types().cache()) / a.num_layers);
}

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

bool AttentionCase::fits(const Model& model, int64_t sequences, int64_t context,
                         const Buffer& arena) {
  return layer_bytes(model, sequences, context) <= static_cast<int64_t>(arena.bytes());
}

AttentionCase::AttentionCase(const Kernels& kernels, const Model& model, int64_t sequences,
                             int64_t context, Buffer& arena, std::mt19937_64& random)
    : shape_(shape_of(model.architecture())),
      q_(kernels, model.compute_types().queries(), sequences, shape_.num_heads * shape_.head_dim,
         random),
      out_(kernels, out_type(model), sequences, shape_.num_heads * shape_.head_dim, random) {
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
    layers_.push_back({.data = static_cast<unsigned char*>(arena.data()) + i * bytes,
                       .block_stride = static_cast<size_t>(bytes / (sequences * table)),
                       .type = model.compute_types().cache()});
  }
  const int64_t seen = shape_.window == 0 ? context : std::min(context, shape_.window);
  bytes_ = static_cast<double>(bytes) * static_cast<double>(seen) /
           static_cast<double>(table * kTokensPerBlock);
  operations_ = 4.0 * model.compute_types().attention_parts() *
                static_cast<double>(sequences * seen * shape_.num_heads * shape_.head_dim);
  memory_ =
      kernels.allocate(static_cast<size_t>(attention_memory_bytes(shape_, sequences, context)));
}

void AttentionCase::run(const Kernels& kernels, WorkerPool& workers, int64_t calls) {
  const TokenRows rows{.count = q_.view().rows,
                       .positions = positions_.data(),
                       .table_begins = table_begins_.data(),
                       .block_ids = block_ids_.data()};
  const AttentionMemory memory{memory_.data(), static_cast<int64_t>(memory_.bytes())};
  workers.run([&](Lane& lane) {
    kernels.plan_attention(lane, shape_, rows, memory);
    for (int64_t i = 0; i < calls; ++i) {
      const KvLayer& layer = layers_[(next_ + static_cast<size_t>(i)) % layers_.size()];
      kernels.attention(lane, q_.view(), shape_, rows, layer, memory, out_.view());
    }
  });
  next_ = (next_ + static_cast<size_t>(calls)) % layers_.size();
}

}  // namespace tidemill
