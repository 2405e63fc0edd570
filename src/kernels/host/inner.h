// The inner loops of one host variant, as plain functions on plain memory. host/drivers.h shares
// the work among lanes, applies epilogues and meets; what is behind these pointers is all that
// differs between instruction sets.
//
// Plain data and declarations only: files compiled for wider instruction sets include this, and
// must not emit an inline function that the linker could keep for everybody.
#pragma once

#include <stdint.h>

#include "kernels/host/attention_inner.h"
#include "kernels/packed_weight.h"
#include "parallel/memory_ahead.h"

namespace tidemill {

struct Logits;
struct LogitSummary;

// At most so many rows and panels in one call of `product`, unless the variant says more.
inline constexpr int kTileRows = 6;
inline constexpr int kTilePanels = 8;
// Floats from a row of a tile's sums to the next.
inline constexpr int64_t kRowSums = kTilePanels * 16;

// While many rows pass over panels that are in the cache, memory is idle: they fetch this many of
// the next panels for each four of their own. Two lines for 24 products of a line each are about
// what memory gives in that time.
inline constexpr int kPanelsAhead = 2;

// A tile of a product of floats: sums[g * next_sums + r * kRowSums + 16 p + c] = in row r times
// channel c of panel p of the g-th kTilePanels, over all of K in order, one accumulator
// each. Whatever the tile's size, an output's bits are the same.
struct ProductTile {
  const unsigned char* in;      // first row, in the format's input type
  int64_t in_stride;            // bytes
  int64_t num_rows;             // 1 .. kTileRows or what the variant says
  const unsigned char* panels;  // first panel
  // Panels that are wanted in L2 meanwhile, kPanelsAhead for each four of num_panels (the whole
  // next group, when a tile has more than kTileRows rows); null: none. A hint: a variant for which
  // memory is no bottleneck may leave it.
  const unsigned char* ahead;
  bool panels_are_near;  // in a cache: rows before these have met them
  int64_t panel_stride;  // bytes
  int64_t num_panels;    // 1 .. kTilePanels or what the variant says
  int64_t num_steps;     // 64-byte rows of numbers in a panel
  float* sums;
  // Floats from the sums of kTilePanels panels to those of the next.
  int64_t next_sums;
  PackedFormat format;  // of integers: where in a panel their scales stand
  int64_t num_inputs;   // of integers: padded K; behind it in a row of `in` stand its scales
  // Other memory that is wanted in L2 meanwhile, or null; who asks for some of it takes it from
  // there.
  MemoryAhead* wanted;
};

// What becomes of a tile's sums: rows of a product's output from some column on.
struct FinishedTile {
  const float* sums;  // as ProductTile has them; a row's `parts` rows of sums are added first
  int64_t parts;      // 1 or 2
  int64_t num_rows;   // of the output
  int64_t num_cols;   // that are stored
  // Of the first channel (column), or null. A residual's rows are residual_stride floats apart.
  const float* bias;
  const float* residual;
  int64_t residual_stride;
  unsigned char* out;  // first row and column
  int64_t out_stride;  // bytes
  DType type;          // f32 or bf16
};

struct Inner {
  void (*product_f32)(const ProductTile& tile);
  void (*product_bf16)(const ProductTile& tile);
  // Integers: each run of the input (quantized_rows.h) is a row. Within a group the sum of x * q is
  // exact. Then, groups in order, with the fused multiply-add of floats:
  //   Offsets::kNone   a = sum of x * (q - z), with the z of all channels alike: 128 or 8
  //   Offsets::kZero   the same, z being the channel's
  //   Offsets::kOffset a = sum of x * q
  //                    total = fma(float(a) * x_scale, w_scale, total)
  //   Offsets::kOffset total = fma(m, x_scale * float(sum of x), total)
  void (*product_int8)(const ProductTile& tile);
  void (*product_int4)(const ProductTile& tile);
  AttentionInner attention;
  // out[i] = in[i] * scale[i] * r with r = 1 / sqrt(mean of squares + epsilon); count floats.
  void (*normalize)(const float* in, const float* scale, int64_t count, float epsilon, float* out);
  // out = in rotated by angles: j pairs with j + half (RoFormer, Su et al. 2021). Each product is
  // rounded, then their sum: the same bits in every variant. cos and sin have `half` numbers, in
  // and out 2 * half and nothing in common.
  void (*rotate)(const float* in, const float* cos, const float* sin, int64_t half, float* out);
  // Sums, then bias, then residual.
  void (*finish)(const FinishedTile& tile);
  // Sums and bias; then of each two panels, gate and up, 16 columns: silu(gate) * up. The bias is
  // that of whole panels. No residual.
  void (*finish_silu)(const FinishedTile& tile);
  // out[i] = bf16(in[i]), nearest even.
  void (*to_bf16)(const float* in, int64_t count, uint16_t* out);
  // A row of floats as integers (quantized_rows.h): runs of `stride` bytes at `out`.
  void (*quantize)(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,
                   unsigned char* out);
  void (*summarize)(const Logits& logits, LogitSummary* out);
  // Sum of exp((logit - max) * factor).
  float (*sum_exp)(const float* logits, int64_t count, float max, float factor);
  int64_t (*collect)(const Logits& logits, float threshold, int32_t* ids, int64_t capacity);
  void (*chunk_maxima)(const float* logits, int64_t count, float* maxima);
  uint64_t (*read_memory)(const void* data, int64_t bytes);
  // The multiply instruction of products, on numbers in registers or L1, some dozens to some
  // hundreds of times a round; returns the operations done: two for each product that is added to
  // a sum. Bytes: of int4, and of int8 where int8_halves is 1.
  int64_t (*multiply_f32)(int64_t rounds);
  int64_t (*multiply_bf16)(int64_t rounds);
  int64_t (*multiply_bytes)(int64_t rounds);
  // Most rows in one call of product_bf16, and of the integers' (even: both runs of a row are in
  // one call); the sums of a call live on the lane's stack.
  int64_t max_rows_bf16 = kTileRows;
  int64_t max_rows_integers = kTileRows;
  // Most panels in one call of product_bf16 and of product_int8, a multiple of kTilePanels.
  int64_t max_panels = kTilePanels;
  // Operations of multiply_bytes that take as long as one of product_int8: 2 where that takes its
  // weights as two planes of nibbles, or as words, which are half as many to a register.
  int64_t int8_halves = 1;
  // What a lane calls when its share of a product or of attention is done, before it may sleep;
  // null: nothing.
  void (*end_share)() = nullptr;
};

// Defined in the files of that suffix.
#define TIDEMILL_INNER(variant)                                                                  \
  namespace variant {                                                                            \
  void product_f32(const ProductTile& tile);                                                     \
  void product_bf16(const ProductTile& tile);                                                    \
  void product_int8(const ProductTile& tile);                                                    \
  void product_int4(const ProductTile& tile);                                                    \
  void normalize(const float* in, const float* scale, int64_t count, float epsilon, float* out); \
  void rotate(const float* in, const float* cos, const float* sin, int64_t half, float* out);    \
  void finish(const FinishedTile& tile);                                                         \
  void finish_silu(const FinishedTile& tile);                                                    \
  void to_bf16(const float* in, int64_t count, uint16_t* out);                                   \
  void quantize(const float* in, int64_t count, const QuantizedForm& form, int64_t stride,       \
                unsigned char* out);                                                             \
  void summarize(const Logits& logits, LogitSummary* out);                                       \
  float sum_exp(const float* logits, int64_t count, float max, float factor);                    \
  int64_t collect(const Logits& logits, float threshold, int32_t* ids, int64_t capacity);        \
  void chunk_maxima(const float* logits, int64_t count, float* maxima);                          \
  uint64_t read_memory(const void* data, int64_t bytes);                                         \
  int64_t multiply_f32(int64_t rounds);                                                          \
  int64_t multiply_bf16(int64_t rounds);                                                         \
  int64_t multiply_bytes(int64_t rounds);                                                        \
  }
TIDEMILL_INNER(reference)
TIDEMILL_INNER(avx2)
TIDEMILL_INNER(avx512)
#undef TIDEMILL_INNER

// Most rows of a call of avx2::product_bf16: their part of K and that of a panel share L1.
inline constexpr int64_t kAvx2RowsBf16 = 24;
// And of its integers: of int8 likewise, of int4 a panel stays in L1.
inline constexpr int64_t kAvx2RowsIntegers = 24;
// Most panels of a call of bf16 and of int8: inputs are widened once for them.
inline constexpr int64_t kAvx2Panels = 3 * kTilePanels;

// The bf16 products of a processor with AVX512_BF16; everything else is avx512's.
inline constexpr int64_t kBf16Rows = 24;  // most in a call
namespace avx512bf16 {
void product_bf16(const ProductTile& tile);
int64_t multiply_bf16(int64_t rounds);
}  // namespace avx512bf16

// The integer products of a processor with AVX512_VNNI.
// Most rows of a call: two panels and these rows' inputs share L1.
inline constexpr int64_t kVnniRows = 24;
namespace avx512vnni {
void product_int8(const ProductTile& tile);
void product_int4(const ProductTile& tile);
// The same of 1 .. kTileRows rows for a Xeon, which wants to be asked for other lines.
void few_rows_int8(const ProductTile& tile);
void few_rows_int4(const ProductTile& tile);
int64_t multiply_bytes(int64_t rounds);
}  // namespace avx512vnni

}  // namespace tidemill
