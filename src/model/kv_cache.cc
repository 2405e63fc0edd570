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
  bundle_bytes_ = static_cast<int64_t>(layer(0).bundle_stride);
}

KvLayer KvCache::layer(int64_t index) const {
  const int64_t offset = index * layer_stride_;
  CHECK(index >= 0 && offset + layer_bytes_ <= static_cast<int64_t>(memory_.bytes()),
        "layer {} of a KV cache of {} bytes, {} per layer", index, memory_.bytes(), layer_bytes_);
  return kv_layer(static_cast<unsigned char*>(memory_.data()) + offset, type_, num_kv_heads_,
                  head_dim_);
}

int64_t KvCache::bundles_of_piece() const {
  return std::max<int64_t>(1, kHugePageBytes / bundle_bytes_);
}

int64_t KvCache::num_pieces(int64_t num_bundles) const {
  return (num_bundles + bundles_of_piece() - 1) / bundles_of_piece() * num_layers_;
}

void KvCache::touch_piece(int64_t piece) {
  const int64_t begin = piece / num_layers_ * bundles_of_piece() * bundle_bytes_;
  const int64_t bytes = std::min(bundles_of_piece() * bundle_bytes_, layer_bytes_ - begin);
  kernels_.touch(layer(piece % num_layers_).data + begin, static_cast<size_t>(bytes));
}

bool KvCache::touch_ahead(WorkerPool& workers, int64_t used, int64_t bytes_ahead) {
  // Of bundles that are used a part may never have been: they are touched, too.
  const int64_t used_bundles = (used + kBundleBlocks - 1) / kBundleBlocks;
  const int64_t ahead = bytes_ahead / (num_layers_ * bundle_bytes_) + 1;
  const int64_t wanted =
      num_pieces(std::min(layer_bytes_ / bundle_bytes_, used_bundles + ahead)) - touched_pieces_;
  if (wanted <= 0) return false;
  const int64_t count = std::min<int64_t>(wanted, workers.num_threads());
  workers.run_present([&](Lane& lane) {
    const Range mine = lane.share(count);
    for (int64_t i = mine.begin; i < mine.end; ++i) touch_piece(touched_pieces_ + i);
  });
  touched_pieces_ += count;
  return true;
}

}  // namespace tidemill
