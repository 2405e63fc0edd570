#include "compiler/round_weights.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "base/check.h"
#include "base/float16.h"

namespace tidemill {
namespace {

constexpr float kLeastAbsMax = 1e-5f;   // of a channel with an f32 scale
constexpr float kLeastHalf = 0x1p-24f;  // above zero
constexpr float kLargestHalf = 65504.0f;

float half_scale(float scale) {
  if (scale > kLargestHalf) {
    throw std::runtime_error(
        format("a scale of {} is beyond the largest f16 number, {}: these weights cannot be "
               "rounded in groups. Use dtype=bf16 without quantize, or quantize=w8a8.",
               scale, kLargestHalf));
  }
  return std::max(to_float(to_f16(scale)), kLeastHalf);
}

struct Range {
  float least;
  float most;
};

// Of the numbers, and zero.
Range range_of(std::span<const float> numbers) {
  Range range{0.0f, 0.0f};
  for (const float number : numbers) {
    range.least = std::min(range.least, number);
    range.most = std::max(range.most, number);
  }
  return range;
}

struct Rounding {
  float scale;
  float zero;
};

Rounding rounding_of(const PackedFormat& format, std::span<const float> numbers) {
  const Range range = range_of(numbers);
  const float largest = std::max(range.most, -range.least);
  const bool is_int8 = format.numbers == Numbers::kInt8;
  const float top = is_int8 ? 255.0f : 15.0f;
  if (format.offsets == Offsets::kZero) {
    const float scale = half_scale((range.most - range.least) / top);
    return {scale, std::clamp(std::nearbyint(-range.least / scale), 0.0f, top)};
  }
  if (!is_int8) return {half_scale(2.0f * largest / top), 8.0f};
  if (format.group > 0) return {half_scale(largest / 127.0f), 128.0f};
  return {std::max(largest, kLeastAbsMax) / 127.0f, 128.0f};
}

}  // namespace

RoundedRows round_rows(const PackedFormat& format, int64_t k, std::span<const float> rows) {
  CHECK(is_integer(format) && format.offsets != Offsets::kOffset, "floats to a format of files");
  const int64_t groups = num_groups(format, k);
  const int64_t per_group = format.group == 0 ? k : format.group;
  RoundedRows rounded{
      .num_rows = static_cast<int64_t>(rows.size()) / k, .q = {}, .scales = {}, .offsets = {}};
  rounded.q.resize(rows.size());
  // int8 with the zero 128 leaves -128 out, so that no format depends on its sign.
  const bool symmetric_int8 = format.numbers == Numbers::kInt8 && format.offsets == Offsets::kNone;
  const float least = symmetric_int8 ? 1.0f : 0.0f;
  const float most = format.numbers == Numbers::kInt8 ? 255.0f : 15.0f;
  for (int64_t row = 0; row < rounded.num_rows; ++row) {
    for (int64_t group = 0; group < groups; ++group) {
      // Padding may bring a whole group of its own.
      const int64_t begin = std::min(group * per_group, k);
      const int64_t end = std::min(begin + per_group, k);
      const auto numbers =
          rows.subspan(static_cast<size_t>(row * k + begin), static_cast<size_t>(end - begin));
      const Rounding rounding = rounding_of(format, numbers);
      rounded.scales.push_back(rounding.scale);
      rounded.offsets.push_back(rounding.zero);
      for (size_t i = 0; i < numbers.size(); ++i) {
        const float q = std::nearbyint(numbers[i] / rounding.scale) + rounding.zero;
        rounded.q[static_cast<size_t>(row * k + begin) + i] =
            static_cast<uint8_t>(std::clamp(q, least, most));
      }
    }
  }
  return rounded;
}

}  // namespace tidemill
