#include "checkpoint/gguf_blocks.h"

#include <cstring>

#include "base/float16.h"

namespace tidemill {
namespace {

float half_at(const std::byte* bytes) {
  F16 value;
  std::memcpy(&value.bits, bytes, sizeof value.bits);
  return to_float(value);
}
int byte_at(const std::byte* bytes, int64_t index) { return std::to_integer<int>(bytes[index]); }
int signed_at(const std::byte* bytes, int64_t index) {
  return std::to_integer<int8_t>(bytes[index]);
}

// ---- blocks of 32

// Number i of 32: the low nibbles are the first half.
uint8_t nibble(const std::byte* nibbles, int i) {
  const int byte = byte_at(nibbles, i % 16);
  return static_cast<uint8_t>(i < 16 ? byte & 15 : byte >> 4);
}

void unpack_q4_0(const std::byte* block, StoredBlock& out) {
  out.scale = half_at(block);
  for (int i = 0; i < 32; ++i) out.q[i] = nibble(block + 2, i);
}

void unpack_q4_1(const std::byte* block, StoredBlock& out) {
  out.scale = half_at(block);
  out.offset = half_at(block + 2);
  for (int i = 0; i < 32; ++i) out.q[i] = nibble(block + 4, i);
}

// The fifth bits are the bits of a word before the nibbles.
void unpack_five(const std::byte* fifths, StoredBlock& out) {
  uint32_t word;
  std::memcpy(&word, fifths, sizeof word);
  for (int i = 0; i < 32; ++i) {
    out.q[i] = static_cast<uint8_t>(nibble(fifths + 4, i) | ((word >> i) & 1u) << 4);
  }
}

void unpack_q5_0(const std::byte* block, StoredBlock& out) {
  out.scale = half_at(block);
  unpack_five(block + 2, out);
}

void unpack_q5_1(const std::byte* block, StoredBlock& out) {
  out.scale = half_at(block);
  out.offset = half_at(block + 2);
  unpack_five(block + 4, out);
}

void unpack_q8_0(const std::byte* block, StoredBlock& out) {
  out.scale = half_at(block);
  for (int i = 0; i < 32; ++i) out.q[i] = static_cast<uint8_t>(signed_at(block, 2 + i) + 128);
}

template <void (*kUnpack)(const std::byte*, StoredBlock&), int kZero>
void read_unpacked(const std::byte* bytes, float* out) {
  StoredBlock block;
  kUnpack(bytes, block);
  for (int i = 0; i < 32; ++i) {
    out[i] = block.scale * static_cast<float>(block.q[i] - kZero) + block.offset;
  }
}

// ---- blocks of 256

struct ScaleAndMin {
  int scale;
  int min;
};

// Of Q4_K and Q5_K: the six-bit pair of part s, of 8.
ScaleAndMin scale_and_min(const std::byte* b, int s) {
  if (s < 4) return {byte_at(b, s) & 63, byte_at(b, s + 4) & 63};
  return {(byte_at(b, s + 4) & 15) | (byte_at(b, s - 4) >> 6) << 4,
          byte_at(b, s + 4) >> 4 | (byte_at(b, s) >> 6) << 4};
}

void read_q2_k(const std::byte* block, float* out) {
  const std::byte* scales = block;
  const std::byte* qs = block + 16;
  const float d = half_at(block + 80);
  const float dmin = half_at(block + 82);
  for (int e = 0; e < 256; ++e) {
    const int n = e / 128, j = e % 128 / 32, l = e % 32;
    const int q = byte_at(qs, 32 * n + l) >> (2 * j) & 3;
    const int sc = byte_at(scales, 8 * n + 2 * j + l / 16);
    out[e] = d * static_cast<float>(sc & 15) * static_cast<float>(q) -
             dmin * static_cast<float>(sc >> 4);
  }
}

void read_q3_k(const std::byte* block, float* out) {
  const std::byte* hmask = block;
  const std::byte* qs = block + 32;
  const std::byte* raw = block + 96;
  const float d = half_at(block + 108);
  for (int e = 0; e < 256; ++e) {
    const int n = e / 128, j = e % 128 / 32, l = e % 32;
    const int i = 8 * n + 2 * j + l / 16;
    const int low = i < 8 ? byte_at(raw, i) & 15 : byte_at(raw, i - 8) >> 4;
    const int s = low | (byte_at(raw, 8 + i % 4) >> (2 * (i / 4)) & 3) << 4;
    const bool high = (byte_at(hmask, l) >> (4 * n + j) & 1) != 0;
    const int q = (byte_at(qs, 32 * n + l) >> (2 * j) & 3) - (high ? 0 : 4);
    out[e] = d * static_cast<float>(s - 32) * static_cast<float>(q);
  }
}

void read_q4_k(const std::byte* block, float* out) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  for (int e = 0; e < 256; ++e) {
    const int s = e / 32, l = e % 32;
    const ScaleAndMin part = scale_and_min(block + 4, s);
    const int q = byte_at(block + 16, 32 * (e / 64) + l) >> (4 * (s & 1)) & 15;
    out[e] = d * static_cast<float>(part.scale) * static_cast<float>(q) -
             dmin * static_cast<float>(part.min);
  }
}

void read_q5_k(const std::byte* block, float* out) {
  const float d = half_at(block);
  const float dmin = half_at(block + 2);
  for (int e = 0; e < 256; ++e) {
    const int s = e / 32, l = e % 32;
    const ScaleAndMin part = scale_and_min(block + 4, s);
    const int low = byte_at(block + 48, 32 * (e / 64) + l) >> (4 * (s & 1)) & 15;
    const int q = low | (byte_at(block + 16, l) >> s & 1) << 4;
    out[e] = d * static_cast<float>(part.scale) * static_cast<float>(q) -
             dmin * static_cast<float>(part.min);
  }
}

void read_q6_k(const std::byte* block, float* out) {
  const float d = half_at(block + 208);
  for (int e = 0; e < 256; ++e) {
    const int n = e / 128, t = e % 128 / 32, l = e % 32;
    const int low = byte_at(block, 64 * n + l + 32 * (t & 1)) >> (4 * (t >> 1)) & 15;
    const int high = byte_at(block + 128, 32 * n + l) >> (2 * t) & 3;
    const int scale = signed_at(block + 192, 8 * n + 2 * t + l / 16);
    out[e] = d * static_cast<float>(scale) * static_cast<float>((low | high << 4) - 32);
  }
}

template <void (*kUnpack)(const std::byte*, StoredBlock&), int kZero>
constexpr GgufBlock block_of_32(StoredType type, int64_t bytes, int bits, bool has_offsets) {
  return {type, 32, bytes, read_unpacked<kUnpack, kZero>, kUnpack, {bits, kZero, has_offsets}};
}

constexpr GgufBlock kBlocks[] = {
    block_of_32<unpack_q4_0, 8>(StoredType::kQ4_0, 18, 4, false),
    block_of_32<unpack_q4_1, 0>(StoredType::kQ4_1, 20, 4, true),
    block_of_32<unpack_q5_0, 16>(StoredType::kQ5_0, 22, 5, false),
    block_of_32<unpack_q5_1, 0>(StoredType::kQ5_1, 24, 5, true),
    block_of_32<unpack_q8_0, 128>(StoredType::kQ8_0, 34, 8, false),
    {StoredType::kQ2K, 256, 84, read_q2_k, nullptr, {}},
    {StoredType::kQ3K, 256, 110, read_q3_k, nullptr, {}},
    {StoredType::kQ4K, 256, 144, read_q4_k, nullptr, {}},
    {StoredType::kQ5K, 256, 176, read_q5_k, nullptr, {}},
    {StoredType::kQ6K, 256, 210, read_q6_k, nullptr, {}},
};

}  // namespace

const GgufBlock* gguf_block(StoredType type) {
  for (const GgufBlock& block : kBlocks) {
    if (block.type == type) return &block;
  }
  return nullptr;
}

bool is_block(StoredType type) { return gguf_block(type) != nullptr; }

std::optional<BlockFacts> block_facts(StoredType type) {
  const GgufBlock* block = gguf_block(type);
  if (block == nullptr || block->unpack == nullptr) return std::nullopt;
  return block->facts;
}

}  // namespace tidemill
