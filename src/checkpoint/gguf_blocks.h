// The block types of GGUF: how many numbers and bytes a block has, and how it is read. Formulas:
// checkpoints.md 8.3. Files promise no alignment: bytes are copied, never cast.
#pragma once

#include <cstddef>
#include <cstdint>

#include "checkpoint/checkpoint.h"

namespace tidemill {

struct GgufBlock {
  StoredType type;
  int64_t numbers;
  int64_t bytes;
  void (*read)(const std::byte* block, float* out);
  // Of blocks of 32: their integers as they are. Null for the others.
  void (*unpack)(const std::byte* block, StoredBlock& out);
  BlockFacts facts;
};

// Null for types that are no blocks.
const GgufBlock* gguf_block(StoredType type);

}  // namespace tidemill
