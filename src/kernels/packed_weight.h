// How a weight is laid out for the kernels of the host family (design: panels).
//
// A panel is 16 output channels by all of K, contiguous. N is padded to 16; padding is zero. Panel
// p holds channels 16p..16p+15. A 64-byte row of a panel holds, for each of the 16 channels in
// turn, 4 bytes of K:
//   f32   row r: 16 channels x k = r                   K padded to 16
//   bf16  row r: 16 channels x k = 2r, 2r + 1          K padded to 32
//   int8  row r: 16 channels x k = 4r .. 4r + 3        K padded to 64, as unsigned bytes q + 128
//   int4  row r: 16 channels x k = 8r .. 8r + 7        K padded to 64, q = 0 .. 15; the 4 bytes of
//   a
//         channel are two 16-bit words, nibble s (from below) of word p is k = 8r + 2s + p
// A weight starts on a 4096-byte boundary of its file, a panel on a 64-byte one. Where the rows of
// a panel are a multiple of 4096 bytes, one row of zeros stands behind them.
//
// Integers have scales, which stand behind the rows that they belong to, as one more row of the
// panel: one stream through memory.
//   group 0    one f32 scale for each channel, behind all of K
//   otherwise  16 f16 scales for each group of that many inputs (a multiple of 32; the last group
//   may
//              be short), and behind them what `offsets` says:
//     kNone    nothing: the scales of two groups share a row, behind the second of the two (behind
//              the first where K ends there)
//     kZero    16 words of 16 bits:         w = scale (q - z)
//              int8: z = 0 .. 255. int4: z = 0 .. 31, and 32 times the sum of the group's q, where
//              it has no more than kMaxSummedGroup inputs.
//     kOffset  16 f16 m:                    w = scale q + m
//              (int8's q is then 0 .. 255, the byte as it stands)
// With kNone w = scale (q - 8) for int4 and scale (byte - 128) for int8.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

namespace tidemill {

enum class Numbers : uint8_t { kF32, kBf16, kInt8, kInt4 };
enum class Offsets : uint8_t { kNone, kZero, kOffset };

struct PackedFormat {
  Numbers numbers = Numbers::kF32;
  Offsets offsets = Offsets::kNone;  // of integers
  int32_t group = 0;  // of integers: inputs that share a scale; 0: all of a channel's

  static const PackedFormat kF32;
  static const PackedFormat kBf16;
  static const PackedFormat kInt8PerChannel;
  bool operator==(const PackedFormat&) const = default;
};
inline constexpr PackedFormat PackedFormat::kF32{Numbers::kF32};
inline constexpr PackedFormat PackedFormat::kBf16{Numbers::kBf16};
inline constexpr PackedFormat PackedFormat::kInt8PerChannel{Numbers::kInt8};

inline constexpr int64_t kPanelChannels = 16;
inline constexpr int32_t kMaxGroup = 4096;
inline constexpr int32_t kMaxSummedGroup = 128;
inline constexpr uint8_t kInt4ZeroMask = 31;

// A view; the bytes belong to the engine directory's mapping.
struct PackedWeight {
  PackedFormat format{};
  int64_t n = 0;  // output channels, without padding
  int64_t k = 0;  // inputs, without padding
  const unsigned char* data = nullptr;
  int32_t input_parts = 1;  // of integers: 2 where activations keep 16 bits (quantized_rows.h)
};

bool is_integer(const PackedFormat& format);
int64_t padded_k(const PackedFormat& format, int64_t k);
int64_t num_panels(int64_t n);
// Of integers: groups that K is cut into, the last one perhaps short.
int64_t num_groups(const PackedFormat& format, int64_t k);
// Rows of 64 bytes of a panel that hold numbers; integers have rows of scales between them.
int64_t num_number_rows(const PackedFormat& format, int64_t k);
size_t panel_bytes(const PackedFormat& format, int64_t k);
size_t packed_bytes(const PackedFormat& format, int64_t n, int64_t k);

// The type and, for integers, the form in which a product wants its input.
DType input_type(const PackedFormat& format);
QuantizedForm input_form(const PackedWeight& weight);

// Writes one panel of floats. `rows` points at num_rows (1 to 16) rows of k floats, row-major;
// missing rows are zero channels. f32 to bf16 rounds to nearest even. Not for integers.
void pack_panel(const PackedFormat& format, int64_t k, const float* rows, int64_t num_rows,
                unsigned char* out);

// The integers of up to 16 channels, as they are laid out above but one channel after another.
struct IntegerRows {
  int64_t num_rows = 0;
  const uint8_t* q = nullptr;      // [num_rows, k]: bytes (int8: q + 128), or 0 .. 15
  const float* scales = nullptr;   // [num_rows, groups]; groups have f16 numbers
  const float* offsets = nullptr;  // [num_rows, groups]: z, or m as an f16 number; else null
};
void pack_panel(const PackedFormat& format, int64_t k, const IntegerRows& rows, unsigned char* out);

// Back again: all k inputs of channel n.
void unpack_row(const PackedWeight& weight, int64_t n, float* out);

}  // namespace tidemill
