// Everything the model may ask of the hardware: one struct of functions per variant.
//
// A step is a list of these calls in a fixed order, the same for every variant. Every worker of the
// section makes every call, with the same arguments; each does its share of the work, and a call
// returns when all shares are done and visible (it ends in lane.meet()), unless its comment says
// that it works for the calling lane alone. Kernels allocate nothing, log nothing and cannot fail:
// what could go wrong is checked when weights are bound.
//
// One arithmetic: a row's bits depend on that row alone, never on how many rows there are, who the
// neighbours are, how a prompt was cut into chunks, or how many workers share the call.
#pragma once

#include <stdint.h>

#include "kernels/buffer.h"
#include "kernels/kv_layout.h"
#include "kernels/logits.h"
#include "kernels/packed_weight.h"
#include "kernels/tensor.h"

namespace tidemill {

class Lane;

// What happens to a product before it is stored.
struct Epilogue {
  const float* bias = nullptr;       // [n], added to the product
  const Tensor* residual = nullptr;  // f32 [rows, n], added after the bias; may be `out` itself
  // Panels of the weight alternate gate and up (n counts both): out[row, 16j + c] =
  // silu(gate) * up, with n / 2 columns. silu(x) = x / (1 + exp(-x)).
  bool silu_times_up = false;
  // f32 [rows, num_logit_chunks(n)]: where the product gives logits (f32, no SiLU), also what
  // Logits::chunk_maxima are of each row.
  const Tensor* chunk_maxima = nullptr;
};

inline int64_t num_logit_chunks(int64_t count) { return (count + kLogitChunk - 1) / kLogitChunk; }

// Which tokens of the step are where. Flat arrays, one entry per token row.
struct TokenRows {
  int64_t count = 0;
  const int32_t* positions = nullptr;     // of the token in its sequence
  const int32_t* table_begins = nullptr;  // index into block_ids of the sequence's first block
  // Block tables, one after another. Where no row attends, an entry is not looked at.
  const int32_t* block_ids = nullptr;
};

struct AttentionShape {
  int64_t num_heads = 0;
  int64_t num_kv_heads = 0;
  int64_t head_dim = 0;
  float scale = 1.0f;  // scores = scale * q.k
  int64_t window = 0;  // a query sees this many keys, itself included; 0: all before it
};

// The first position that a query at `position` attends to.
int64_t first_attended(const AttentionShape& shape, int64_t position);

// Where attention keeps the plan of a step and what lanes leave for each other; 64-byte aligned.
struct AttentionMemory {
  void* data = nullptr;
  int64_t bytes = 0;
};

// Bytes of it for steps of up to max_rows rows at positions below max_positions, with any variant.
int64_t attention_memory_bytes(const AttentionShape& shape, int64_t max_rows,
                               int64_t max_positions);

// Rotary embedding and, where given, the per-head norms before it.
struct Rotary {
  const float* cos = nullptr;  // [max_positions, head_dim / 2], the attention factor included
  const float* sin = nullptr;
  const float* q_norm = nullptr;  // [head_dim] scales of an RMS norm per head, or null
  const float* k_norm = nullptr;
  float norm_epsilon = 0.0f;
};

// Rows that go from product to product before the next ones do, where a step has many: those that
// a core takes alone.
struct StripSize {
  // So many that a panel is used often before the next is read, so few that their floats stay in
  // the core's own cache.
  int64_t rows = 48;
  int64_t multiple_of = 12;  // rows of a whole tile
  // Where all cores take a strip together, because a layer is too large for each of them to read.
  int64_t rows_together = INT64_MAX;
};

struct Kernels {
  const char* name = "";         // "reference", "avx2", "avx512", "amx"
  const char* description = "";  // one line for `inspect`
  StripSize strip;

  // 64-byte aligned, zeroed; huge pages where they help. Throws std::bad_alloc.
  Buffer (*allocate)(size_t bytes) = nullptr;

  // Has the system give these bytes of such memory now, which it else does when they are first
  // written, while that waits. They keep their values. Works for the caller alone.
  void (*touch)(void* data, size_t bytes) = nullptr;

  // out[row, :] = weight[ids[row], :], read from the packed layout. out is f32.
  void (*embed)(Lane& lane, const PackedWeight& weight, const int32_t* ids, Tensor out) = nullptr;

  // out[i, :] = in[r, :] * scale[:] / sqrt(mean(in[r, :]^2) + epsilon) with r = rows[i], or i when
  // rows is null. in is f32; out has the type and form that the next product reads.
  void (*rms_norm)(Lane& lane, Tensor in, const int32_t* rows, const float* scale, float epsilon,
                   Tensor out) = nullptr;

  // in (f32) as integers of the form that `out` names (quantized_rows.h).
  void (*quantize)(Lane& lane, Tensor in, Tensor out) = nullptr;

  // out[row, n] = sum over k of in[row, k] * weight[n, k], then the epilogue. in has the type and
  // form that the weight asks for (packed_weight.h: input_type, input_form); out is f32 or bf16.
  void (*matmul)(Lane& lane, Tensor in, const PackedWeight& weight, const Epilogue& epilogue,
                 Tensor out) = nullptr;

  // Splits rows of q|k|v (f32 [rows, (num_heads + 2 num_kv_heads) * head_dim]), normalises and
  // rotates q and k (half-rotate: j pairs with j + head_dim / 2), writes q to `q_out` (f32 or bf16,
  // [rows, num_heads * head_dim]) and k and v into their blocks, rounded to the cache's type; of
  // int8 with one scale for each token and head.
  void (*rotate_and_store)(Lane& lane, Tensor qkv, const AttentionShape& shape,
                           const Rotary& rotary, const TokenRows& rows, Tensor q_out,
                           KvLayer cache) = nullptr;

  // Decides which rows of a step walk which blocks together and which lane does what. Once for a
  // step; attention of every layer of that shape reads it.
  void (*plan_attention)(Lane& lane, const AttentionShape& shape, const TokenRows& rows,
                         const AttentionMemory& memory) = nullptr;
  // Attention of each row over positions 0..its own (inside the window), from the cache. Defined
  // once for prefill and decode: key blocks of 32 in order, online maximum (block by block, or by
  // groups of blocks counted from 0, as the variant has it) inside partitions of 512 positions
  // counted from 0, partitions merged in order. q has the cache's type, or f32 where that
  // is int8. out: [rows, num_heads * head_dim].
  // `memory` holds the plan for these rows.
  void (*attention)(Lane& lane, Tensor q, const AttentionShape& shape, const TokenRows& rows,
                    KvLayer cache, const AttentionMemory& memory, Tensor out) = nullptr;

  // For the calling lane alone, one row of logits.
  LogitSummary (*summarize_logits)(const Logits& logits) = nullptr;
  // Sum over the row of exp((logit - max) * factor), in one stated order. Not part of the summary:
  // a greedy choice without log-probabilities has no use for it.
  float (*sum_exp)(const float* logits, int64_t count, float max, float factor) = nullptr;
  // Of finite logits, ids of those >= threshold in ascending order, at most `capacity`; returns how
  // many there are (which may exceed capacity: then the list is incomplete).
  int64_t (*collect_at_least)(const Logits& logits, float threshold, int32_t* ids,
                              int64_t capacity) = nullptr;
  // Logits::chunk_maxima of a row that no product has left them for.
  void (*chunk_maxima)(const float* logits, int64_t count, float* maxima) = nullptr;
  // Reads every byte, for the bandwidth probe (bandwidth_probe.h); returns a sum so that the reads
  // cannot be left out. `bytes` is a multiple of 32 KiB.
  uint64_t (*read_memory)(const void* data, int64_t bytes) = nullptr;
  // For the arithmetic probe (arithmetic_probe.h), for the calling lane alone: the multiply
  // instruction of products with weights of such numbers, over and over on registers or L1. Returns
  // how many operations that were, two for each product that was added to a sum; the same for each
  // round.
  int64_t (*multiply_peak)(Numbers numbers, int64_t rounds) = nullptr;
};

}  // namespace tidemill
