// The meaning of a product, for people and for tests. Sums in double: a yardstick must not carry
// the error that it measures.
#include <string.h>

#include "base/float16.h"
#include "kernels/host/inner.h"

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

}  // namespace

void product_f32(const ProductTile& tile) { product<F32>(tile); }
void product_bf16(const ProductTile& tile) { product<Bf16Pairs>(tile); }

}  // namespace tidemill::reference
