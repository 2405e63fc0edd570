#include "kernels/packed_weight.h"

#include <string.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/check.h"
#include "base/float16.h"
#include "base/round_up.h"
#include "kernels/quantized_rows.h"

namespace tidemill {
namespace {

constexpr int64_t kChannelBytes = 4;  // that a row holds of each channel
constexpr int64_t kRowBytes = kPanelChannels * kChannelBytes;
constexpr int64_t kHalvesBytes = kPanelChannels * 2;  // of one f16 for each channel

int64_t inputs_per_row(const PackedFormat& format) {
  switch (format.numbers) {
    case Numbers::kF32:
      return 1;
    case Numbers::kBf16:
      return 2;
    case Numbers::kInt8:
      return 4;
    case Numbers::kInt4:
      return 8;
  }
  return 1;
}

// Groups whose scales share a row.
int64_t groups_per_scale_row(const PackedFormat& format) {
  return format.group > 0 && format.offsets == Offsets::kNone ? 2 : 1;
}

int64_t scale_rows(const PackedFormat& format, int64_t k) {
  if (!is_integer(format)) return 0;
  const int64_t together = groups_per_scale_row(format);
  return (num_groups(format, k) + together - 1) / together;
}

// Byte offset inside a panel of the row that holds input k.
int64_t row_offset(const PackedFormat& format, int64_t k) {
  const int64_t row = k / inputs_per_row(format);
  int64_t before = 0;  // rows of scales
  if (is_integer(format) && format.group > 0) {
    before = k / format.group / groups_per_scale_row(format);
  }
  return (row + before) * kRowBytes;
}

// Byte offset inside a panel of the scales of a group.
int64_t scales_offset(const PackedFormat& format, int64_t k, int64_t group) {
  const int64_t together = groups_per_scale_row(format);
  const int64_t last = std::min((group / together + 1) * together, num_groups(format, k)) - 1;
  const int64_t inputs = format.group == 0
                             ? padded_k(format, k)
                             : std::min((last + 1) * format.group, padded_k(format, k));
  const int64_t rows = inputs / inputs_per_row(format) + group / together;
  return rows * kRowBytes + group % together * kHalvesBytes;
}

// What a scale row holds of one channel and group: w = scale * (q - zero) + offset.
struct GroupNumbers {
  float scale = 0.0f;
  float zero = 0.0f;
  float offset = 0.0f;
};

float read_half(const unsigned char* source) {
  F16 value;
  memcpy(&value.bits, source, sizeof value.bits);
  return to_float(value);
}

void write_half(float value, unsigned char* target) {
  const F16 half = to_f16(value);
  CHECK(to_float(half) == value, "{} is no f16 number", value);
  memcpy(target, &half.bits, sizeof half.bits);
}

uint16_t read_word(const unsigned char* source) {
  uint16_t word;
  memcpy(&word, source, sizeof word);
  return word;
}

int zero_mask(const PackedFormat& format) {
  return format.numbers == Numbers::kInt4 ? kInt4ZeroMask : 255;
}

GroupNumbers group_numbers(const PackedFormat& format, const unsigned char* scales, int64_t c) {
  GroupNumbers numbers;
  if (format.group == 0) {
    memcpy(&numbers.scale, scales + c * 4, sizeof numbers.scale);
  } else {
    numbers.scale = read_half(scales + c * 2);
  }
  switch (format.offsets) {
    case Offsets::kNone:
      numbers.zero = format.numbers == Numbers::kInt8 ? 128.0f : 8.0f;
      break;
    case Offsets::kZero:
      numbers.zero =
          static_cast<float>(read_word(scales + kHalvesBytes + c * 2) & zero_mask(format));
      break;
    case Offsets::kOffset:
      numbers.offset = read_half(scales + kHalvesBytes + c * 2);
      break;
  }
  return numbers;
}

float read_float(Numbers numbers, const unsigned char* channel, int64_t place) {
  if (numbers == Numbers::kF32) {
    float value;
    memcpy(&value, channel, sizeof value);
    return value;
  }
  Bf16 value;
  memcpy(&value.bits, channel + place * 2, sizeof value.bits);
  return to_float(value);
}

// Where the nibble of input `place` (0 .. 7) of a channel's 4 bytes stands.
struct NibblePlace {
  int64_t byte;
  int shift;
};
NibblePlace nibble_place(int64_t place) {
  const int64_t word = place % 2;
  const int64_t nibble = place / 2;
  return {word * 2 + nibble / 2, static_cast<int>(nibble % 2 * 4)};
}

uint8_t read_integer(Numbers numbers, const unsigned char* channel, int64_t place) {
  if (numbers == Numbers::kInt8) return channel[place];
  const NibblePlace at = nibble_place(place);
  return static_cast<uint8_t>((channel[at.byte] >> at.shift) & 15);
}

void write_integer(Numbers numbers, uint8_t q, int64_t place, unsigned char* channel) {
  if (numbers == Numbers::kInt8) {
    channel[place] = q;
    return;
  }
  CHECK(q < 16, "{} in four bits", q);
  const NibblePlace at = nibble_place(place);
  channel[at.byte] = static_cast<unsigned char>(channel[at.byte] | (q << at.shift));
}

// `sum`: of the group's q.
void write_group(const PackedFormat& format, int64_t c, float scale, const float* offset,
                 int64_t sum, unsigned char* scales) {
  if (format.group == 0) {
    memcpy(scales + c * 4, &scale, sizeof scale);
  } else {
    write_half(scale, scales + c * 2);
  }
  if (format.offsets == Offsets::kZero) {
    CHECK(*offset >= 0 && *offset <= static_cast<float>(zero_mask(format)), "a zero of {}",
          *offset);
    const bool is_summed = format.numbers == Numbers::kInt4 && format.group <= kMaxSummedGroup;
    const auto word = static_cast<uint16_t>(static_cast<int64_t>(*offset) +
                                            (is_summed ? sum * (kInt4ZeroMask + 1) : 0));
    memcpy(scales + kHalvesBytes + c * 2, &word, sizeof word);
  } else if (format.offsets == Offsets::kOffset) {
    write_half(*offset, scales + kHalvesBytes + c * 2);
  }
}

}  // namespace

bool is_integer(const PackedFormat& format) {
  return format.numbers == Numbers::kInt8 || format.numbers == Numbers::kInt4;
}

int64_t padded_k(const PackedFormat& format, int64_t k) {
  return round_up(k,
                  is_integer(format) ? kQuantizedPadding : inputs_per_row(format) * kPanelChannels);
}

int64_t num_panels(int64_t n) { return (n + kPanelChannels - 1) / kPanelChannels; }

int64_t num_groups(const PackedFormat& format, int64_t k) {
  return format.group == 0 ? 1 : (padded_k(format, k) + format.group - 1) / format.group;
}

int64_t num_number_rows(const PackedFormat& format, int64_t k) {
  return padded_k(format, k) / inputs_per_row(format);
}

// Panels of whole pages, side by side, would meet in the same sets of caches.
size_t panel_bytes(const PackedFormat& format, int64_t k) {
  constexpr int64_t kPageBytes = 4096;
  const int64_t bytes = (num_number_rows(format, k) + scale_rows(format, k)) * kRowBytes;
  return static_cast<size_t>(bytes % kPageBytes == 0 ? bytes + kRowBytes : bytes);
}

size_t packed_bytes(const PackedFormat& format, int64_t n, int64_t k) {
  return static_cast<size_t>(num_panels(n)) * panel_bytes(format, k);
}

DType input_type(const PackedFormat& format) {
  if (is_integer(format)) return DType::kInt8;
  return format.numbers == Numbers::kF32 ? DType::kF32 : DType::kBf16;
}

QuantizedForm input_form(const PackedWeight& weight) {
  if (!is_integer(weight.format)) return {};
  return {.group = weight.format.group,
          .nibble_order = weight.format.numbers == Numbers::kInt4,
          .parts = weight.input_parts};
}

void pack_panel(const PackedFormat& format, int64_t k, const float* rows, int64_t num_rows,
                unsigned char* out) {
  CHECK(num_rows >= 1 && num_rows <= kPanelChannels, "a panel of {} channels", num_rows);
  CHECK(!is_integer(format), "floats into integers: round them first");
  memset(out, 0, panel_bytes(format, k));
  const int64_t per_row = inputs_per_row(format);
  for (int64_t c = 0; c < num_rows; ++c) {
    for (int64_t i = 0; i < k; ++i) {
      const float value = rows[c * k + i];
      unsigned char* channel = out + i / per_row * kRowBytes + c * kChannelBytes;
      if (format.numbers == Numbers::kF32) {
        memcpy(channel, &value, sizeof value);
      } else {
        const uint16_t bits = to_bf16(value).bits;
        memcpy(channel + i % per_row * 2, &bits, sizeof bits);
      }
    }
  }
}

void pack_panel(const PackedFormat& format, int64_t k, const IntegerRows& rows,
                unsigned char* out) {
  CHECK(rows.num_rows >= 1 && rows.num_rows <= kPanelChannels, "a panel of {} channels",
        rows.num_rows);
  CHECK(is_integer(format), "integers into floats");
  memset(out, 0, panel_bytes(format, k));
  const int64_t groups = num_groups(format, k);
  for (int64_t c = 0; c < rows.num_rows; ++c) {
    for (int64_t i = 0; i < k; ++i) {
      unsigned char* channel = out + row_offset(format, i) + c * kChannelBytes;
      write_integer(format.numbers, rows.q[c * k + i], i % inputs_per_row(format), channel);
    }
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t index = c * groups + g;
      const int64_t begin = g * format.group;
      const int64_t end = format.group == 0 ? k : std::min(begin + format.group, k);
      const uint8_t* const q = rows.q + c * k;
      const int64_t sum = begin < end ? std::accumulate(q + begin, q + end, int64_t{0}) : 0;
      write_group(format, c, rows.scales[index],
                  rows.offsets == nullptr ? nullptr : rows.offsets + index, sum,
                  out + scales_offset(format, k, g));
    }
  }
}

// A row of the panel at a time: divisions for each number would take longer than reading it.
void unpack_row(const PackedWeight& weight, int64_t n, float* out) {
  const PackedFormat& format = weight.format;
  const unsigned char* panel =
      weight.data + static_cast<size_t>(n / kPanelChannels) * panel_bytes(format, weight.k);
  const int64_t c = n % kPanelChannels;
  const int64_t per_row = inputs_per_row(format);
  GroupNumbers group;
  for (int64_t k = 0; k < weight.k; k += per_row) {
    const unsigned char* channel = panel + row_offset(format, k) + c * kChannelBytes;
    const int64_t count = std::min(per_row, weight.k - k);
    if (!is_integer(format)) {
      for (int64_t i = 0; i < count; ++i) out[k + i] = read_float(format.numbers, channel, i);
      continue;
    }
    if (k == 0 || (format.group > 0 && k % format.group == 0)) {
      const int64_t index = format.group == 0 ? 0 : k / format.group;
      group = group_numbers(format, panel + scales_offset(format, weight.k, index), c);
    }
    for (int64_t i = 0; i < count; ++i) {
      const auto q = static_cast<float>(read_integer(format.numbers, channel, i));
      out[k + i] = group.scale * (q - group.zero) + group.offset;
    }
  }
}

}  // namespace tidemill
