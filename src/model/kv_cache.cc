#include "model/kv_cache.h"

#include <algorithm>
#include <bit>

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

// From layer to layer, so that they begin at as many places of a huge page as there are layers: of
// a power of two of places an odd number of steps meets them all.
int64_t stride_of(int64_t layer_bytes, int64_t num_layers) {
  if (layer_bytes < kHugePageBytes) return layer_bytes;
  const auto places = static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(num_layers)));
  const int64_t apart = std::max(kSmallPageBytes, kHugePageBytes / places);
  const int64_t steps = (layer_bytes + apart - 1) / apart;
  return (steps | 1) * apart;
}

}  // namespace

// Layer by layer: the blocks of one layer, which one attention call reads, stand together.
KvCache::KvCache(const Kernels& kernels, const Architecture& architecture, DType type,
                 int64_t num_blocks)
    : kernels_(kernels),
      type_(type),
      num_layers_(architecture.num_layers),
      num_kv_heads_(architecture.num_kv_heads),
      head_dim_(architecture.head_dim),
      num_blocks_(num_blocks),
      layer_bytes_(
          static_cast<int64_t>(kv_layer_bytes(type, num_kv_heads_, head_dim_, num_blocks))) {
  layer_stride_ = stride_of(layer_bytes_, num_layers_);
  const int64_t bytes = (num_layers_ - 1) * layer_stride_ + layer_bytes_;
  memory_ = kernels.allocate(static_cast<size_t>(bytes));
}

KvLayer KvCache::layer(int64_t index) const {
  const int64_t offset = index * layer_stride_;
  CHECK(index >= 0 && offset + layer_bytes_ <= static_cast<int64_t>(memory_.bytes()),
        "layer {} of a KV cache of {} bytes, {} per layer", index, memory_.bytes(), layer_bytes_);
  return kv_layer(static_cast<unsigned char*>(memory_.data()) + offset, type_, num_kv_heads_,
                  head_dim_);
}

bool KvCache::touch_ahead(int64_t used) {
  const auto bundle_bytes = static_cast<int64_t>(layer(0).bundle_stride);
  const int64_t num_bundles = layer_bytes_ / bundle_bytes;
  // Of those that are used a part may never have been: they are touched, too.
  const int64_t used_bundles = (used + kBundleBlocks - 1) / kBundleBlocks;
  const int64_t ahead = kBytesAhead / (num_layers_ * bundle_bytes) + 1;
  if (touched_bundles_ >= std::min(num_bundles, used_bundles + ahead)) return false;
  const int64_t count =
      std::min(num_bundles - touched_bundles_, std::max<int64_t>(1, kHugePageBytes / bundle_bytes));
  unsigned char* const bundles = layer(touched_layers_).data + touched_bundles_ * bundle_bytes;
  kernels_.touch(bundles, static_cast<size_t>(count * bundle_bytes));
  if (++touched_layers_ == num_layers_) {
    touched_bundles_ += count;
    touched_layers_ = 0;
  }
  return true;
}

}  // namespace tidemill
