// How a weight is laid out for the kernels of the host family (design: panels).
//
// A panel is 16 output channels by all of K, contiguous. K is padded to 64 bytes' worth (f32: 16,
// bf16: 32), N to 16; padding is zero. Panel p holds channels 16p..16p+15. A 64-byte row of a panel
// holds, for each of the 16 channels in turn, 4 bytes of K:
//   f32   row r: 16 channels x k = r
//   bf16  row r: 16 channels x k = 2r, 2r + 1
// A weight starts on a 4096-byte boundary of its file, a panel on a 64-byte one.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace tidemill {

enum class PackedFormat : uint8_t { kF32, kBf16 };

inline constexpr int64_t kPanelChannels = 16;

// A view; the bytes belong to the engine directory's mapping.
struct PackedWeight {
  PackedFormat format = PackedFormat::kF32;
  int64_t n = 0;  // output channels, without padding
  int64_t k = 0;  // inputs, without padding
  const unsigned char* data = nullptr;
};

int64_t padded_k(PackedFormat format, int64_t k);
int64_t num_panels(int64_t n);
size_t panel_bytes(PackedFormat format, int64_t k);
size_t packed_bytes(PackedFormat format, int64_t n, int64_t k);

// Writes one panel. `rows` points at num_rows (1 to 16) rows of k floats, row-major; missing rows
// are zero channels. f32 to bf16 rounds to nearest even.
void pack_panel(PackedFormat format, int64_t k, const float* rows, int64_t num_rows,
                unsigned char* out);

// Back again: all k inputs of channel n.
void unpack_row(const PackedWeight& weight, int64_t n, float* out);

}  // namespace tidemill
