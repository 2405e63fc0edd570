// The loop of the arithmetic probe: one multiply instruction on registers, into as many sums as
// hide its latency. Included by the peak_*.cc files of the variants. In an unnamed namespace, as
// inner.h explains.
#pragma once

#include <stdint.h>

#include "kernels/host/unroll.h"

namespace tidemill {
namespace {

// Twelve sums: an instruction of six cycles' latency that starts twice in a cycle is never waited
// for, and with its operands they fit sixteen registers. Two loops, so that both are unrolled.
inline constexpr int kSumRows = 2;
inline constexpr int kSumCols = 6;

// `Multiply` brings a Register, zero(), add_to(sum), use(sum) and kOperations, what one add_to
// counts. Returns the operations of `rounds` rounds.
template <typename Multiply>
int64_t peak_loop(int64_t rounds) {
  typename Multiply::Register sums[kSumRows][kSumCols];
  TIDEMILL_UNROLL
  for (int r = 0; r < kSumRows; ++r) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kSumCols; ++c) sums[r][c] = Multiply::zero();
  }
  Multiply multiply;
  for (int64_t round = 0; round < rounds; ++round) {
    TIDEMILL_UNROLL
    for (int r = 0; r < kSumRows; ++r) {
      TIDEMILL_UNROLL
      for (int c = 0; c < kSumCols; ++c) multiply.add_to(sums[r][c]);
    }
  }
  TIDEMILL_UNROLL
  for (int r = 0; r < kSumRows; ++r) {
    TIDEMILL_UNROLL
    for (int c = 0; c < kSumCols; ++c) Multiply::use(sums[r][c]);
  }
  return rounds * kSumRows * kSumCols * Multiply::kOperations;
}

}  // namespace
}  // namespace tidemill
