// The meaning of a product, for people and for tests. Sums of floats in double: a yardstick must
// not carry the error that it measures. Sums of integers are exact, and the floats behind them are
// added in the order that inner.h states: every variant has the same bits.
#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "kernels/host/inner.h"
#include "kernels/quantized_rows.h"

namespace tidemill::reference {
namespace {

struct F32 {
  static constexpr int kPerRow = 1;
  static double at(const unsigned char* data, int64_t index) {
    float value;
    memcpy(&value, data + index * 4, sizeof value);
    return value;
  }
};

struct Bf16Pairs {
  static constexpr int kPerRow = 2;
  static double at(const unsigned char* data, int64_t index) {
    Bf16 value;
    memcpy(&value.bits, data + index * 2, sizeof value.bits);
    return to_float(value);
  }
};

template <typename Format>
void product(const ProductTile& tile) {
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    const unsigned char* in = tile.in + r * tile.in_stride;
    for (int64_t p = 0; p < tile.num_panels; ++p) {
      const unsigned char* panel = tile.panels + p * tile.panel_stride;
      for (int64_t c = 0; c < 16; ++c) {
        double sum = 0.0;
        for (int64_t k = 0; k < tile.num_steps * Format::kPerRow; ++k) {
          const int64_t row = k / Format::kPerRow;
          sum += Format::at(in, k) *
                 Format::at(panel, (row * 16 + c) * Format::kPerRow + k % Format::kPerRow);
        }
        tile.sums[(r * kTilePanels + p) * 16 + c] = static_cast<float>(sum);
      }
    }
  }
}

float half_at(const unsigned char* data, int64_t index) {
  F16 value;
  memcpy(&value.bits, data + index * 2, sizeof value.bits);
  return to_float(value);
}

struct Int8 {
  static constexpr int64_t kPerRow = 4;
  static constexpr int32_t kMiddle = 128;
  static constexpr uint8_t kZeroMask = 255;
  // Sum over the four inputs of a channel in one row of x * q.
  static int32_t sum(const unsigned char* channel, const signed char* x) {
    int32_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += channel[i] * x[i];
    return sum;
  }
};

// x stands in nibble order: low nibbles of a channel's bytes, then high ones.
struct Int4 {
  static constexpr int64_t kPerRow = 8;
  static constexpr int32_t kMiddle = 8;
  static constexpr uint8_t kZeroMask = kInt4ZeroMask;
  static int32_t sum(const unsigned char* channel, const signed char* x) {
    int32_t sum = 0;
    for (int i = 0; i < 4; ++i) sum += (channel[i] & 15) * x[i] + (channel[i] >> 4) * x[4 + i];
    return sum;
  }
};

// One channel of a panel against one run of the input.
template <typename Format>
class IntegerSum {
 public:
  IntegerSum(const ProductTile& tile, const unsigned char* panel, int64_t channel,
             const unsigned char* in)
      : format_(tile.format),
        row_(panel),
        channel_(channel),
        x_(in),
        scales_(in + tile.num_inputs) {
    int64_t left = tile.num_steps;
    const int64_t per_group = format_.group == 0 ? left : format_.group / Format::kPerRow;
    const bool pairs = format_.group > 0 && format_.offsets == Offsets::kNone;
    while (left > 0) {
      const int64_t first = left < per_group ? left : per_group;
      const int64_t behind = left - first < per_group ? left - first : per_group;
      const int64_t second = pairs ? behind : 0;
      const unsigned char* scale_row = row_ + (first + second) * 64;
      add_group(first, scale_row);
      if (second > 0) add_group(second, scale_row + 32);
      row_ += 64;  // behind the scales
      left -= first + second;
    }
  }
  float total() const { return total_; }

 private:
  void add_group(int64_t num_rows, const unsigned char* scales) {
    GroupScale of_x;
    memcpy(&of_x, scales_, sizeof of_x);
    scales_ += sizeof of_x;
    int32_t sum = 0;
    if (format_.offsets == Offsets::kNone) sum = -Format::kMiddle * of_x.sum;
    if (format_.offsets == Offsets::kZero) {
      uint16_t word;
      memcpy(&word, scales + 32 + channel_ * 2, sizeof word);
      sum = -int32_t{word & Format::kZeroMask} * of_x.sum;
    }
    for (int64_t i = 0; i < num_rows; ++i) {
      sum += Format::sum(row_ + channel_ * 4, reinterpret_cast<const signed char*>(x_));
      row_ += 64;
      x_ += Format::kPerRow;
    }
    float scale;
    if (format_.group == 0) {
      memcpy(&scale, scales + channel_ * 4, sizeof scale);
    } else {
      scale = half_at(scales, channel_);
    }
    total_ = fmaf(static_cast<float>(sum) * of_x.scale, scale, total_);
    if (format_.offsets != Offsets::kOffset) return;
    const float offset = half_at(scales + 32, channel_);
    total_ = fmaf(offset, of_x.scale * static_cast<float>(of_x.sum), total_);
  }

  const PackedFormat format_;
  const unsigned char* row_;
  const int64_t channel_;
  const unsigned char* x_;
  const unsigned char* scales_;
  float total_ = 0.0f;
};

template <typename Format>
void integer_product(const ProductTile& tile) {
  for (int64_t r = 0; r < tile.num_rows; ++r) {
    for (int64_t p = 0; p < tile.num_panels; ++p) {
      for (int64_t c = 0; c < 16; ++c) {
        tile.sums[(r * kTilePanels + p) * 16 + c] =
            IntegerSum<Format>(tile, tile.panels + p * tile.panel_stride, c,
                               tile.in + r * tile.in_stride)
                .total();
      }
    }
  }
}

}  // namespace

void product_int8(const ProductTile& tile) { integer_product<Int8>(tile); }
void product_int4(const ProductTile& tile) { integer_product<Int4>(tile); }

void product_f32(const ProductTile& tile) { product<F32>(tile); }
void product_bf16(const ProductTile& tile) { product<Bf16Pairs>(tile); }

}  // namespace tidemill::reference
