// What the variant "amx" adds to avx512: products and attention on tiles, and their twins in plain
// C++ for tests.
// Plain data and declarations only, as inner.h explains.
//
// The arithmetic of its bf16 products: an output is the sum, from zero, over blocks of 32 inputs in
// order; a block is the even products' sum plus the odd products' sum, each added up from zero by
// fused multiply-add in order. That is what TDPBF16PS does, and few rows follow it. Products of
// integers have the bits of every other variant.
#pragma once

#include <stdint.h>

#include "kernels/host/inner.h"

namespace tidemill {

// Row tiles x panels whose sums are held in tiles at once. All give the same bits.
enum class Blocking : uint8_t { k3x1, k2x2, k2x1 };

// Both choices: the fastest on an Emerald Rapids (a core of a shared virtual machine), 256 rows.
// 3x1 takes 1.1 times as long in bf16 and int8.
inline constexpr Blocking kDefaultBlocking = Blocking::k2x2;
// Integers in groups: for each group and 16 x 16 sums the vector unit has some 24 to 40 cycles of
// scales to apply, the tiles 16 or 32 of products (groups of up to 64, of 128). What that reads of
// a row is read once for two panels here; 3x1 and 2x1 take 1.1 to 1.5 times as long.
inline constexpr Blocking kGroupsBlocking = Blocking::k2x2;

// Up to this many rows, reading the weights takes longer than their products: AVX-512 streams them.
// Of integers a row is a run (quantized_rows.h); eight on tiles take 0.6 to 0.8 of the time in
// int4, 0.9 in int8, six 0.7 to 0.8 and 1.04 (the same Emerald Rapids).
inline constexpr int64_t kFewRows = 4;
inline constexpr int64_t kFewRowsInt8 = 6;
inline constexpr int64_t kFewRowsInt4 = 4;
static_assert(kFewRowsInt8 <= kTileRows && kFewRowsInt4 <= kTileRows, "one call of theirs");

// A short panel of int4 ends before AVX-512's stream through it runs (presumed): four rows on tiles
// take 0.71 to 0.84 of the time at 576 inputs in groups of 64, 0.90 to 1.01 in groups of 32, 1.05
// at 1536 inputs (another Xeon, weights from memory; in cache they take 1.2 to 1.7).
inline constexpr int64_t kShortInputs = 1024;
inline bool are_few_rows_of_int4(const ProductTile& tile) {
  return tile.num_rows < kFewRowsInt4 ||
         (tile.num_rows == kFewRowsInt4 && tile.num_inputs >= kShortInputs);
}

// Most rows of a tile that the driver asks for: a multiple of the blockings that are chosen. Their
// sums stay in L2 until they are finished; int4 is unpacked once for all of them. 32 rows take 1.1
// times as long on the Emerald Rapids, 64 hardly more.
inline constexpr int64_t kAmxRows = 256;

// Tile instructions, and AVX-512 for few rows.
namespace amx {
void product_bf16(const ProductTile& tile);
void few_rows_bf16(const ProductTile& tile);                       // 1 .. kFewRows
void product_bf16_by(Blocking blocking, const ProductTile& tile);  // tiles, however few rows
void product_int8(const ProductTile& tile);
void product_int4(const ProductTile& tile);
void product_int8_by(Blocking blocking, const ProductTile& tile);
void product_int4_by(Blocking blocking, const ProductTile& tile);
void attend_bf16(const AttentionTask& task);
void attend_int8(const AttentionTask& task);
// Gives up what this thread has in tiles, if anything.
void release_tiles();
}  // namespace amx

// The same loops on plain tiles (plain_tiles.h); they run on every machine.
class PlainTiles;
namespace amx_emulated {
void product_bf16(const ProductTile& tile);              // plain tiles for any number of rows
void product_bf16_with_avx512(const ProductTile& tile);  // few rows as in amx
void product_bf16_by(Blocking blocking, const ProductTile& tile);
void product_int8(const ProductTile& tile);
void product_int4(const ProductTile& tile);
void product_int8_with_avx512(const ProductTile& tile);
void product_int4_with_avx512(const ProductTile& tile);
void product_int8_by(Blocking blocking, const ProductTile& tile);
void product_int4_by(Blocking blocking, const ProductTile& tile);
// Of either width, on tiles that the caller may look at afterwards.
void product_integers_on(PlainTiles& tiles, Blocking blocking, const ProductTile& tile);
void attend_bf16_with_avx512(const AttentionTask& task);
void attend_int8_with_avx512(const AttentionTask& task);
}  // namespace amx_emulated

}  // namespace tidemill
