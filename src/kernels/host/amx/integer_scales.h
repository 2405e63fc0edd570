// Sums of integers, exact within a group, on their way to floats.
//
// In an unnamed namespace, as attention_loop.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/amx/integer_portions.h"
#include "kernels/host/inner.h"
#include "kernels/host/product_groups.h"
#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// The sums of one block of rows, one set of panels and one group, in memory, until all their rows
// have scales. kMiddle: what weights were multiplied without, where it is alike for all channels;
// then they were multiplied without zero points of their own, too. V: see IntegerProduct.
template <int32_t kMiddle, typename V>
class WaitingSums {
 public:
  explicit WaitingSums(const ProductTile& product) : product_(product) {}

  struct Part {
    int64_t first, count;
  };

  // Of a row the panels stand side by side, 64 bytes each. What waited before is done.
  void add(const unsigned char* sums, Part rows, Part panels, int64_t group, int64_t scales) {
    sums_ = sums;
    first_row_ = rows.first;
    num_left_ = rows.count;
    panel_ = panels.first;
    num_panels_ = panels.count;
    group_ = group;
    scales_ = scales;
  }

  int64_t num_panels() const { return num_panels_; }

  // Nothing waits any more.
  void finish() {
    switch (num_panels_) {
      case 1:
        return apply_scales<1>(1);
      case 2:
        return apply_scales<2>(1);
      case 4:
        return apply_scales<4>(1);
    }
  }

  // To an equal share of what waits, kUsed panels, when so many steps are left for it.
  template <int kUsed>
  void apply_scales(int64_t steps_left) {
    const int64_t count = (num_left_ + steps_left - 1) / steps_left;
    if (count == 0) return;
    switch (product_.format.offsets) {
      case Offsets::kNone:
        apply<kUsed, Offsets::kNone>(count);
        break;
      case Offsets::kZero:
        apply<kUsed, Offsets::kZero>(count);
        break;
      case Offsets::kOffset:
        apply<kUsed, Offsets::kOffset>(count);
        break;
    }
    sums_ += count * kUsed * 64;
    first_row_ += count;
    num_left_ -= count;
  }

 private:
  using F = typename V::F;
  using I = typename V::I;

  // The order of these floats is part of the format's meaning (inner.h). On copies, because a store
  // of floats could change every member as far as the compiler knows.
  template <int kUsed, Offsets kOffsets>
  void apply(int64_t count) const {
    const ProductTile product = product_;
    F scales[kUsed];
    F offsets[kUsed];
    I zeros[kUsed];
    constexpr bool kSubtractsZeros = kOffsets == Offsets::kZero && kMiddle != 0;
    TIDEMILL_UNROLL
    for (int p = 0; p < kUsed; ++p) {
      const unsigned char* row = product.panels + (panel_ + p) * product.panel_stride + scales_;
      scales[p] = product.format.group == 0 ? V::floats_at(row) : V::halves_at(row);
      if constexpr (kOffsets == Offsets::kOffset) offsets[p] = V::halves_at(row + 32);
      if constexpr (kSubtractsZeros) zeros[p] = V::widened_bytes(row + 32);
    }
    const unsigned char* of_input = scale_of_input(product, first_row_, group_);
    const unsigned char* sums = sums_;
    float* totals = product.sums + (first_row_ * kTilePanels + panel_) * 16;
    const bool from_zero = group_ == 0;
    for (int64_t r = 0; r < count; ++r) {
      const F x_scale = V::set1_float(*reinterpret_cast<const float*>(of_input));
      const int32_t x_sum = *reinterpret_cast<const int32_t*>(of_input + 4);
      F x_offset = V::zero();
      if constexpr (kOffsets == Offsets::kOffset) x_offset = V::scaled(V::set1(x_sum), x_scale);
      TIDEMILL_UNROLL
      for (int p = 0; p < kUsed; ++p) {
        I sum = V::load(sums + p * 64);
        if constexpr (kOffsets == Offsets::kNone && kMiddle != 0) {
          sum = V::add(sum, V::set1(-kMiddle * x_sum));
        }
        if constexpr (kSubtractsZeros) sum = V::add(sum, V::multiply(zeros[p], V::set1(-x_sum)));
        F total = from_zero ? V::zero() : V::floats_at(totals + p * 16);
        total = V::fma(V::scaled(sum, x_scale), scales[p], total);
        if constexpr (kOffsets == Offsets::kOffset) total = V::fma(offsets[p], x_offset, total);
        V::store(totals + p * 16, total);
      }
      of_input += product.in_stride;
      sums += kUsed * 64;
      totals += kRowSums;
    }
  }

  const ProductTile& product_;
  const unsigned char* sums_ = nullptr;
  int64_t panel_ = 0;
  int64_t num_panels_ = 0;
  int64_t first_row_ = 0;
  int64_t num_left_ = 0;
  int64_t group_ = 0;
  int64_t scales_ = 0;
};

}  // namespace
}  // namespace tidemill
