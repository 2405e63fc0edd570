#include "kernels/host/driver_parts.h"

#include <math.h>
#include <sys/mman.h>

#include <new>

#include "kernels/kv_layout.h"

namespace tidemill::host {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr size_t kSmallPageBytes = 4096;

}  // namespace

void norm_head(const float* in, const float* norm, float epsilon, int64_t dim, float* out) {
  double squares = 0.0;
  for (int64_t d = 0; d < dim; ++d) squares += static_cast<double>(in[d]) * in[d];
  const auto factor = static_cast<float>(1.0 / sqrt(squares / static_cast<double>(dim) + epsilon));
  for (int64_t d = 0; d < dim; ++d) out[d] = in[d] * factor * norm[d];
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

void touch(void* data, size_t bytes) {
  if (bytes == 0) return;
  auto* const first = static_cast<volatile unsigned char*>(data);
  for (size_t i = 0; i < bytes; i += kSmallPageBytes) first[i] = first[i];
  first[bytes - 1] = first[bytes - 1];
}

}  // namespace tidemill::host
