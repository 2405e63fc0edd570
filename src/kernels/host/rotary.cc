#include "kernels/host/rotary.h"

#include <math.h>
#include <sys/mman.h>

#include <new>

#include "kernels/kv_layout.h"

namespace tidemill::host {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;

}  // namespace

void rotate_head(const float* source, const float* norm, const Rotary& rotary,
                 const AttentionShape& shape, int32_t position, float* out) {
  const int64_t dim = shape.head_dim;
  float normed[kMaxHeadDim];
  if (norm != nullptr) {
    double squares = 0.0;
    for (int64_t d = 0; d < dim; ++d) squares += static_cast<double>(source[d]) * source[d];
    const auto factor =
        static_cast<float>(1.0 / sqrt(squares / static_cast<double>(dim) + rotary.norm_epsilon));
    for (int64_t d = 0; d < dim; ++d) normed[d] = source[d] * factor * norm[d];
    source = normed;
  }
  const int64_t half = dim / 2;
  const float* cos = rotary.cos + position * half;
  const float* sin = rotary.sin + position * half;
  for (int64_t j = 0; j < half; ++j) {
    out[j] = source[j] * cos[j] - source[j + half] * sin[j];
    out[j + half] = source[j + half] * cos[j] + source[j] * sin[j];
  }
}

Buffer allocate(size_t bytes) {
  if (bytes == 0) return {};
  const size_t rounded = (bytes + kHugePageBytes - 1) / kHugePageBytes * kHugePageBytes;
  const size_t mapped = bytes < kHugePageBytes ? bytes : rounded;
  void* data = mmap(nullptr, mapped, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) throw std::bad_alloc();
  // Before first touch; a kernel that does not know it ignores it.
  if (mapped >= kHugePageBytes) madvise(data, mapped, MADV_HUGEPAGE);
  return Buffer(data, mapped, [](void* address, size_t length) { munmap(address, length); });
}

}  // namespace tidemill::host
