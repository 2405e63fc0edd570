#include "model/kv_cache.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace tidemill {

int64_t kv_bytes_per_block(const Architecture& architecture, DType type) {
  return architecture.num_layers * static_cast<int64_t>(kv_block_bytes(
                                       type, architecture.num_kv_heads, architecture.head_dim));
}

namespace {

// What the system gives at a time where it gives huge pages: zeros, that it writes while a step
// waits. Layers that came to the end of a page together would let one step wait for all of theirs.
constexpr int64_t kHugePageBytes = int64_t{2} << 20;
constexpr int64_t kSmallPageBytes = 4096;

// From layer to layer, so that they begin at as many places of a huge page as there are layers.
int64_t stride_of(int64_t layer_bytes, int64_t num_layers) {
  if (layer_bytes < kHugePageBytes) return layer_bytes;
  const int64_t apart =
      std::max(kSmallPageBytes, kHugePageBytes / num_layers / kSmallPageBytes * kSmallPageBytes);
  const int64_t places = kHugePageBytes / apart;
  const int64_t pages = layer_bytes / kHugePageBytes;
  int64_t steps = (layer_bytes % kHugePageBytes + apart - 1) / apart;
  while (std::gcd(steps, places) != 1) ++steps;
  return pages * kHugePageBytes + steps * apart;
}

}  // namespace

// Layer by layer, then block by block: the blocks of one layer, which one attention call reads,
// stand together.
KvCache::KvCache(const Kernels& kernels, const Architecture& architecture, DType type,
                 int64_t num_blocks)
    : kernels_(kernels),
      type_(type),
      num_layers_(architecture.num_layers),
      num_blocks_(num_blocks),
      block_bytes_(kv_bytes_per_block(architecture, type) / num_layers_) {
  layer_bytes_ = block_bytes_ * num_blocks;
  layer_stride_ = stride_of(layer_bytes_, num_layers_);
  const int64_t bytes = (num_layers_ - 1) * layer_stride_ + layer_bytes_;
  memory_ = kernels.allocate(static_cast<size_t>(bytes));
}

KvLayer KvCache::layer(int64_t index) const {
  const int64_t offset = index * layer_stride_;
  CHECK(index >= 0 && offset + layer_bytes_ <= static_cast<int64_t>(memory_.bytes()),
        "layer {} of a KV cache of {} bytes, {} per layer", index, memory_.bytes(), layer_bytes_);
  return {.data = static_cast<unsigned char*>(memory_.data()) + offset,
          .block_stride = static_cast<size_t>(block_bytes_),
          .type = type_};
}

bool KvCache::touch_ahead(int64_t used) {
  if (used > touched_blocks_) {
    touched_blocks_ = used;
    touched_layers_ = 0;
  }
  const int64_t end = std::min(num_blocks_, used + kBytesAhead / (num_layers_ * block_bytes_) + 1);
  if (touched_blocks_ >= end) return false;
  const int64_t count =
      std::min(num_blocks_ - touched_blocks_, std::max<int64_t>(1, kHugePageBytes / block_bytes_));
  unsigned char* const blocks = layer(touched_layers_).data + touched_blocks_ * block_bytes_;
  kernels_.touch(blocks, static_cast<size_t>(count * block_bytes_));
  if (++touched_layers_ == num_layers_) {
    touched_blocks_ += count;
    touched_layers_ = 0;
  }
  return true;
}

}  // namespace tidemill
