// Floats to integers: round to nearest, without looking at any text. The rules of the scales are
// those of the reference outputs:
//   int8 per channel     scale = max|w| / 127 (max|w| not below 1e-5), q = w / scale
//   int8 in groups       the same with the scale rounded to an f16 number
//   int4, kNone          scale = 2 max|w| / 15, q = w / scale + 8
//   int4 and int8, kZero scale = (max - min) / top over a range that holds 0, z = -min / scale
// rounded to nearest even and cut to the range.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/packed_weight.h"

namespace tidemill {

// Up to 16 channels as integers; rows() points into it.
struct RoundedRows {
  int64_t num_rows = 0;
  std::vector<uint8_t> q;
  std::vector<float> scales;
  std::vector<float> offsets;

  IntegerRows rows() const {
    return {
        .num_rows = num_rows, .q = q.data(), .scales = scales.data(), .offsets = offsets.data()};
  }
};

// `rows`: num_rows rows of k finite floats. Not for Offsets::kOffset, which only files bring.
// Throws std::runtime_error for numbers whose scale no f16 number can hold.
RoundedRows round_rows(const PackedFormat& format, int64_t k, std::span<const float> rows);

}  // namespace tidemill
