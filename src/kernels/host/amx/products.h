// What the variant "amx" adds to avx512: products on tiles, and their twin in plain C++ for tests.
// Plain data and declarations only, as inner.h explains.
//
// The arithmetic of its bf16 products: an output is the sum, from zero, over blocks of 32 inputs in
// order; a block is the even products' sum plus the odd products' sum, each added up from zero by
// fused multiply-add in order. That is what TDPBF16PS does, and few rows follow it.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill {

// Row tiles x panels whose sums are held in tiles at once. All give the same bits.
enum class Blocking : uint8_t { k3x1, k2x2, k2x1 };

// Of a prototype on a Sapphire Rapids core, weights from L2, this was the fastest beside an awake
// hyper-thread and as fast as any beside a sleeping one. Not measured in this program yet.
inline constexpr Blocking kDefaultBlocking = Blocking::k3x1;

// Up to this many rows, reading the weights takes longer than their products: AVX-512 streams them.
inline constexpr int64_t kFewRows = 4;

// Most rows of a tile that the driver asks for: a multiple of every blocking. 1,024 inputs of them,
// a group of panels and their sums fit into 1 MiB of L2.
inline constexpr int64_t kAmxRows = 288;

// int8 weights (stored as q + 128, unsigned; a panel's row is 16 channels x 4 k) times rows of int8
// activations, over one group of k: sums[r * sums_stride + 16 p + c] = sum of in[r, k] *
// stored[channel 16 p + c, k], exact in 32 bits for up to 65,536 k. The caller subtracts 128 times
// the row's sum over the group.
struct Int8Group {
  const int8_t* in;             // first row's first k of the group
  int64_t in_stride;            // bytes
  int64_t num_rows;             // 1 or more
  const unsigned char* panels;  // first panel's first row of the group
  const unsigned char* ahead;   // what is multiplied next (of the same stride), or null
  int64_t panel_stride;         // bytes
  int64_t num_panels;           // 1 or more
  int64_t num_steps;            // 64-byte rows of the group: 1 or more
  int32_t* sums;
  int64_t sums_stride;  // numbers
};

// Tile instructions, and AVX-512 for few rows.
namespace amx {
void product_bf16(const ProductTile& tile);
void few_rows_bf16(const ProductTile& tile);                       // 1 .. kFewRows
void product_bf16_by(Blocking blocking, const ProductTile& tile);  // tiles, however few rows
void sums_int8_by(Blocking blocking, const Int8Group& group);
// Gives up what this thread has in tiles, if anything.
void release_tiles();
}  // namespace amx

// The same loops on plain tiles; they run on every machine.
namespace amx_emulated {
void product_bf16(const ProductTile& tile);              // plain tiles for any number of rows
void product_bf16_with_avx512(const ProductTile& tile);  // few rows as in amx
void product_bf16_by(Blocking blocking, const ProductTile& tile);
void sums_int8_by(Blocking blocking, const Int8Group& group);
}  // namespace amx_emulated

}  // namespace tidemill
