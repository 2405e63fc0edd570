// The arithmetic probe in plain C++: a dot product of numbers that are in L1, floats summed in
// double and integers exactly, as the products of this variant do it.
#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill::reference {
namespace {

constexpr int kNumbers = 256;  // of each operand
constexpr int kSums = 8;       // side by side: one sum would wait for itself

template <typename Number, typename Sum>
int64_t dot(int64_t rounds) {
  Number a[kNumbers];
  Number b[kNumbers];
  for (int i = 0; i < kNumbers; ++i) {
    a[i] = static_cast<Number>(i % 3);
    b[i] = static_cast<Number>(i % 5 - 2);
  }
  Sum sums[kSums] = {};
  for (int64_t round = 0; round < rounds; ++round) {
    __asm__ volatile("" : : "r"(a), "r"(b) : "memory");  // they may have changed, for all it knows
    for (int i = 0; i < kNumbers; i += kSums) {
      for (int s = 0; s < kSums; ++s) {
        sums[s] += static_cast<Sum>(a[i + s]) * static_cast<Sum>(b[i + s]);
      }
    }
  }
  __asm__ volatile("" : : "r"(sums) : "memory");
  return rounds * 2 * kNumbers;
}

}  // namespace

int64_t multiply_f32(int64_t rounds) { return dot<float, double>(rounds); }
int64_t multiply_bf16(int64_t rounds) { return dot<float, double>(rounds); }
// Unsigned: the sums may wrap.
int64_t multiply_bytes(int64_t rounds) { return dot<uint8_t, uint32_t>(rounds); }

}  // namespace tidemill::reference
