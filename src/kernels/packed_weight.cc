#include "kernels/packed_weight.h"

#include <string.h>

#include "base/check.h"
#include "base/float16.h"

namespace tidemill {
namespace {

constexpr int64_t kChannelBytes = 4;  // that a row holds of each channel
constexpr int64_t kRowBytes = kPanelChannels * kChannelBytes;

int64_t inputs_per_row(PackedFormat format) { return format == PackedFormat::kF32 ? 1 : 2; }
int64_t input_bytes(PackedFormat format) { return kChannelBytes / inputs_per_row(format); }

// Byte offset of channel c, input k inside a panel.
int64_t offset_in_panel(PackedFormat format, int64_t c, int64_t k) {
  const int64_t per_row = inputs_per_row(format);
  return k / per_row * kRowBytes + c * kChannelBytes + k % per_row * input_bytes(format);
}

}  // namespace

int64_t padded_k(PackedFormat format, int64_t k) {
  const int64_t multiple = kRowBytes / input_bytes(format);
  return (k + multiple - 1) / multiple * multiple;
}

int64_t num_panels(int64_t n) { return (n + kPanelChannels - 1) / kPanelChannels; }

size_t panel_bytes(PackedFormat format, int64_t k) {
  return static_cast<size_t>(padded_k(format, k) * kPanelChannels * input_bytes(format));
}

size_t packed_bytes(PackedFormat format, int64_t n, int64_t k) {
  return static_cast<size_t>(num_panels(n)) * panel_bytes(format, k);
}

void pack_panel(PackedFormat format, int64_t k, const float* rows, int64_t num_rows,
                unsigned char* out) {
  CHECK(num_rows >= 1 && num_rows <= kPanelChannels, "a panel of {} channels", num_rows);
  memset(out, 0, panel_bytes(format, k));
  for (int64_t c = 0; c < num_rows; ++c) {
    for (int64_t i = 0; i < k; ++i) {
      const float value = rows[c * k + i];
      unsigned char* target = out + offset_in_panel(format, c, i);
      if (format == PackedFormat::kF32) {
        memcpy(target, &value, sizeof value);
      } else {
        const uint16_t bits = to_bf16(value).bits;
        memcpy(target, &bits, sizeof bits);
      }
    }
  }
}

namespace {

float read_element(PackedFormat format, const unsigned char* source) {
  if (format == PackedFormat::kF32) {
    float value;
    memcpy(&value, source, sizeof value);
    return value;
  }
  Bf16 value;
  memcpy(&value.bits, source, sizeof value.bits);
  return to_float(value);
}

}  // namespace

void unpack_row(const PackedWeight& weight, int64_t n, float* out) {
  const size_t panel =
      static_cast<size_t>(n / kPanelChannels) * panel_bytes(weight.format, weight.k);
  const unsigned char* channel = weight.data + panel + n % kPanelChannels * kChannelBytes;
  const int64_t per_row = inputs_per_row(weight.format);
  const int64_t bytes = input_bytes(weight.format);
  for (int64_t k = 0; k < weight.k; ++k) {
    out[k] = read_element(weight.format, channel + k / per_row * kRowBytes + k % per_row * bytes);
  }
}

}  // namespace tidemill
