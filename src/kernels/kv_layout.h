// How keys and values lie in blocks of the host family. The scheduler knows only that a block
// holds kTokensPerBlock tokens.
//
// Blocks 8 b .. 8 b + 7 of one layer are a bundle, [kv head][block][K | V], so that one head's keys
// and values are one stream where a sequence was given neighbours.
//   bf16  K: two halves of 16 tokens; each half is [head_dim / 2 pairs][16 tokens][2]
//         V: [padded head_dim / 16][16 token pairs][16 dims][2 tokens]
//   f32   K: two halves of 16 tokens; each half is [head_dim][16 tokens]
//         V: [padded head_dim / 16][32 tokens][16 dims]
//   int8  K: two halves of 16 tokens; each half is [head_dim / 4][16 tokens][4]
//         V: [padded head_dim / 16][8 token quads][16 dims][4 tokens]
//         behind K, and behind V: 32 bf16 scales, one a token; a number is scale * q, |q| <= 127
// head_dim is padded to 16 for V; K pads it to whole words of 4 bytes. Unused slots are zero, their
// scales, too.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "kernels/tensor.h"

namespace tidemill {

// Tokens per KV block. Small blocks waste less at the end of a sequence (half a block on average)
// and let prefixes match sooner; large ones mean fewer reads of the block table. With 32, the keys
// of one bf16 head of size 128 fill 8 KiB: a block and a tile of queries stay in L1 together.
inline constexpr int64_t kTokensPerBlock = 32;

// Blocks of a bundle. A processor runs ahead of a stream by itself: decode attention of eight
// neighbours took 0.8 of the time on an EPYC (Zen 3). More of them gain little, and would be
// touched, and take memory, together.
inline constexpr int64_t kBundleBlocks = 8;

// Elements of the largest head: kernels keep one on their stack. Larger ones are refused when a
// configuration is read (model/architecture.cc).
inline constexpr int64_t kMaxHeadDim = 256;

// Bytes of K (V) of one head in one block; both are multiples of 64.
size_t k_run_bytes(DType type, int64_t head_dim);
size_t v_run_bytes(DType type, int64_t head_dim);
// Of int8: where in those bytes the scales begin.
size_t k_scales_offset(int64_t head_dim);
size_t v_scales_offset(int64_t head_dim);
// Bytes of one block of one layer, of all heads together.
size_t kv_block_bytes(DType type, int64_t num_kv_heads, int64_t head_dim);

// The keys and values of one layer in a pool of blocks.
struct KvLayer {
  unsigned char* data = nullptr;
  size_t block_stride = 0;   // from a block's part of a head to its neighbour's, bytes
  size_t bundle_stride = 0;  // from bundle to bundle
  DType type = DType::kBf16;
};

KvLayer kv_layer(void* data, DType type, int64_t num_kv_heads, int64_t head_dim);
// Where a block's K of a kv head begins; V follows.
unsigned char* kv_block(const KvLayer& layer, int64_t block, int64_t kv_head);
// Bytes of a layer, whose last bundle is whole.
size_t kv_layer_bytes(DType type, int64_t num_kv_heads, int64_t head_dim, int64_t num_blocks);

}  // namespace tidemill
