#include "kernels/host/kv_store.h"

#include <math.h>
#include <string.h>

#include "base/float16.h"
#include "base/round_up.h"
#include "kernels/element_bytes.h"
#include "kernels/kv_layout.h"

namespace tidemill::host {
namespace {

uint16_t element_of(float value, uint16_t) { return to_bf16(value).bits; }
float element_of(float value, float) { return value; }
int8_t element_of(float value, int8_t) { return static_cast<int8_t>(value); }

// A token's key or value in a head's run, from its slot on (kv_layout.h): pairs of dims (of tokens)
// stand together where two elements are a word of 4 bytes. Null values: zeros.
template <typename Element>
void write_key(Element* run, int64_t head_dim, int64_t t, const float* values) {
  constexpr int64_t kDims = static_cast<int64_t>(sizeof(float) / sizeof(Element));  // of a word
  const int64_t words = (head_dim + kDims - 1) / kDims;
  Element* word = run + (t / 16 * words * 16 + t % 16) * kDims;
  for (int64_t d = 0; d < head_dim; ++d) {
    word[d / kDims * 16 * kDims + d % kDims] =
        element_of(values == nullptr ? 0.0f : values[d], Element{});
  }
}

template <typename Element>
void write_value(Element* run, int64_t head_dim, int64_t t, const float* values) {
  constexpr int64_t kTokens = static_cast<int64_t>(sizeof(float) / sizeof(Element));  // of a word
  Element* word = run + t / kTokens * 16 * kTokens + t % kTokens;
  for (int64_t d = 0; d < head_dim; ++d) {
    word[d / 16 * kTokensPerBlock * 16 + d % 16 * kTokens] =
        element_of(values == nullptr ? 0.0f : values[d], Element{});
  }
}

// Nearest even, for |value| below 2^22, without a call.
float nearest(float value) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction
  return value + kMagic - kMagic;
}

// The scale of a token's int8 numbers: the largest becomes 127 or, as the scale is rounded up to
// bf16, a little less. Not a number where a value is none or infinite.
Bf16 scale_of(const float* values, int64_t head_dim) {
  constexpr float kLeastMagnitude = 1.0e-30f;  // below it, values count as zero
  float largest = 0.0f;
  bool finite = true;
  for (int64_t d = 0; d < head_dim; ++d) {
    largest = fabsf(values[d]) > largest ? fabsf(values[d]) : largest;
    finite &= fabsf(values[d]) <= 3.0e38f;
  }
  if (!finite) return Bf16{0x7fc0};
  if (largest < kLeastMagnitude) return Bf16{0};
  const float scale = largest / 127.0f;
  uint32_t bits;
  memcpy(&bits, &scale, sizeof bits);
  return Bf16{static_cast<uint16_t>((bits + 0xffffu) >> 16)};
}

// Numbers, then scales (kv_layout.h): those of `values` in writers for the slot t.
template <void (*kWrite)(int8_t*, int64_t, int64_t, const float*)>
void write_integers(unsigned char* run, size_t scales_offset, int64_t head_dim, int64_t t,
                    const float* values) {
  const Bf16 scale = values == nullptr ? Bf16{0} : scale_of(values, head_dim);
  const float factor = to_float(scale);
  float integers[kMaxHeadDim] = {};
  for (int64_t d = 0; factor > 0.0f && d < head_dim; ++d) {
    integers[d] = nearest(values[d] / factor);
  }
  kWrite(reinterpret_cast<int8_t*>(run), head_dim, t, integers);
  memcpy(run + scales_offset + t * static_cast<int64_t>(sizeof scale.bits), &scale.bits,
         sizeof scale.bits);
}

enum class Side : uint8_t { kKey, kValue };

void write_slot(unsigned char* run, DType type, Side side, int64_t head_dim, int64_t t,
                const float* values) {
  if (type == DType::kInt8) {
    if (side == Side::kKey) {
      write_integers<write_key<int8_t>>(run, k_scales_offset(head_dim), head_dim, t, values);
    } else {
      write_integers<write_value<int8_t>>(run, v_scales_offset(head_dim), head_dim, t, values);
    }
    return;
  }
  const auto write = [&](auto* elements) {
    if (side == Side::kKey) {
      write_key(elements, head_dim, t, values);
    } else {
      write_value(elements, head_dim, t, values);
    }
  };
  if (type == DType::kF32) {
    write(reinterpret_cast<float*>(run));
  } else {
    write(reinterpret_cast<uint16_t*>(run));
  }
}

// Of a cache of bf16, numbers that are rounded already.
void write_rounded(uint16_t* run, Side side, int64_t head_dim, int64_t t, const uint16_t* values) {
  if (side == Side::kKey) {
    uint16_t* word = run + t / 16 * round_up(head_dim, 2) * 16 + t % 16 * 2;
    for (int64_t d = 0; d + 1 < head_dim; d += 2) memcpy(word + d * 16, values + d, 4);
    if (head_dim % 2 != 0) word[(head_dim - 1) * 16] = values[head_dim - 1];
    return;
  }
  uint16_t* element = run + t / 2 * 32 + t % 2;
  for (int64_t d = 0; d < head_dim; ++d) {
    element[d / 16 * kTokensPerBlock * 16 + d % 16 * 2] = values[d];
  }
}

// The row is the last of its sequence in this step, and the step began the block.
bool must_clear_behind(const TokenRows& rows, int64_t row) {
  const int32_t position = rows.positions[row];
  const auto same_sequence = [&](int64_t other) {
    return other >= 0 && other < rows.count && rows.table_begins[other] == rows.table_begins[row] &&
           rows.positions[other] - position == other - row;
  };
  return !same_sequence(row + 1) && same_sequence(row - position % kTokensPerBlock);
}

// The place of a row's token in its block.
struct Slot {
  Slot(const TokenRows& rows, int64_t row)
      : block(rows.block_ids[rows.table_begins[row] + rows.positions[row] / kTokensPerBlock]),
        index(rows.positions[row] % kTokensPerBlock) {}

  int32_t block;
  int64_t index;
};

unsigned char* run_of(Side side, const KvLayer& cache, int64_t block, int64_t kv_head,
                      int64_t head_dim) {
  unsigned char* keys = kv_block(cache, block, kv_head);
  return side == Side::kKey ? keys : keys + k_run_bytes(cache.type, head_dim);
}

// write(run, slot) writes the row's own numbers.
template <typename Write>
void store_token(const Write& write, Side side, const AttentionShape& shape, const TokenRows& rows,
                 int64_t row, int64_t kv_head, const KvLayer& cache) {
  const Slot slot(rows, row);
  unsigned char* run = run_of(side, cache, slot.block, kv_head, shape.head_dim);
  write(run, slot.index);
  if (!must_clear_behind(rows, row)) return;
  for (int64_t t = slot.index + 1; t < kTokensPerBlock; ++t) {
    write_slot(run, cache.type, side, shape.head_dim, t, nullptr);
  }
}

void store(const float* values, Side side, const AttentionShape& shape, const TokenRows& rows,
           int64_t row, int64_t kv_head, const KvLayer& cache) {
  const auto write = [&](unsigned char* run, int64_t slot) {
    write_slot(run, cache.type, side, shape.head_dim, slot, values);
  };
  store_token(write, side, shape, rows, row, kv_head, cache);
}

void store(const uint16_t* values, Side side, const AttentionShape& shape, const TokenRows& rows,
           int64_t row, int64_t kv_head, const KvLayer& cache) {
  const auto write = [&](unsigned char* run, int64_t slot) {
    write_rounded(reinterpret_cast<uint16_t*>(run), side, shape.head_dim, slot, values);
  };
  store_token(write, side, shape, rows, row, kv_head, cache);
}

constexpr int64_t kLine = 64;           // bytes
constexpr int64_t kTokensPerHalf = 16;  // whose keys share lines

// Files for every x86-64 are compiled without PREFETCHW, and __builtin_prefetch would then fetch to
// read; a processor that lacks it takes it for nothing. (And calls of what only prefetches are dead
// code to GCC 12.)
void fetch_lines(Distance distance, const unsigned char* first, int64_t count, int64_t stride) {
  for (int64_t i = 0; i < count; ++i) {
    if (distance == Distance::kFar) {
      __asm__ volatile("prefetcht1 %0" : : "m"(first[i * stride]));
    } else {
      __asm__ volatile("prefetchw %0" : : "m"(first[i * stride]));
    }
  }
}

// The row before it has written to the same half of a block.
bool has_neighbour(const TokenRows& rows, int64_t row) {
  return row > 0 && rows.positions[row] % kTokensPerHalf != 0 &&
         rows.table_begins[row] == rows.table_begins[row - 1] &&
         rows.positions[row] == rows.positions[row - 1] + 1;
}

}  // namespace

void fetch_slot(Distance distance, const AttentionShape& shape, const TokenRows& rows, int64_t row,
                KvLayer cache) {
  if (row >= rows.count) return;
  const int64_t element = element_bytes(cache.type);
  const Slot slot(rows, row);
  const int64_t key_lines = (shape.head_dim * element + 3) / 4;  // one for each word of 4 bytes
  const int64_t key = slot.index / kTokensPerHalf * key_lines * kLine;
  const int64_t value = slot.index * element / 4 * kLine;
  for (int64_t head = 0; head < shape.num_kv_heads; ++head) {
    const auto run = [&](Side side) {
      return run_of(side, cache, slot.block, head, shape.head_dim);
    };
    if (!has_neighbour(rows, row)) {
      fetch_lines(distance, run(Side::kKey) + key, key_lines, kLine);
    }
    fetch_lines(distance, run(Side::kValue) + value, (shape.head_dim + 15) / 16,
                kTokensPerBlock * 16 * element);
  }
}

void store_key(const float* key, const AttentionShape& shape, const TokenRows& rows, int64_t row,
               int64_t kv_head, KvLayer cache) {
  store(key, Side::kKey, shape, rows, row, kv_head, cache);
}

void store_value(const float* value, const AttentionShape& shape, const TokenRows& rows,
                 int64_t row, int64_t kv_head, KvLayer cache) {
  store(value, Side::kValue, shape, rows, row, kv_head, cache);
}

void store_key(const uint16_t* key, const AttentionShape& shape, const TokenRows& rows, int64_t row,
               int64_t kv_head, KvLayer cache) {
  store(key, Side::kKey, shape, rows, row, kv_head, cache);
}

void store_value(const uint16_t* value, const AttentionShape& shape, const TokenRows& rows,
                 int64_t row, int64_t kv_head, KvLayer cache) {
  store(value, Side::kValue, shape, rows, row, kv_head, cache);
}

}  // namespace tidemill::host
