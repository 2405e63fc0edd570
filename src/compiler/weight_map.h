// Their tensors -> our tensors: which rows of which stored tensors make up each tensor of the
// engine. Everything that is missing or has the wrong shape is listed before any work starts.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "model/architecture.h"
#include "model/engine_dir.h"

namespace tidemill {

// A stored tensor as one part of ours.
struct TensorPart {
  const StoredTensor* stored = nullptr;
  int64_t rows = 0;  // of it that are used; a vector counts as a matrix of one column
  int64_t columns = 0;
  // GGUF files of the "llama" architecture keep the rows of a q or k head in interleaved order:
  // their row 2j is row j of ours, 2j + 1 is j + half. This is the head's size; 0: rows as they
  // are.
  int64_t interleaved_head_dim = 0;
};

// How the parts make up the channels of our tensor.
enum class Arrangement {
  kStacked,            // the rows of one part below those of another: q | k | v
  kAlternatingPanels,  // 16 rows of the first, 16 of the second, ...: gate and up
};

struct MappedTensor {
  EngineTensor target;
  std::vector<TensorPart> parts;
  Arrangement arrangement = Arrangement::kStacked;
};

// Where a channel of ours comes from. `part` is null for padding: the channel is zero.
struct ChannelSource {
  const TensorPart* part = nullptr;
  int64_t row = 0;
};
ChannelSource source_of(const MappedTensor& tensor, int64_t channel);

struct WeightMap {
  // As read from the configuration, completed by what only the tensors say: a tied head, biases and
  // rotary divisors of GGUF files.
  Architecture architecture;
  std::vector<MappedTensor> tensors;  // those of engine_tensors(), in their order
  std::vector<std::string> unused;    // stored, but no part of this network
};

std::vector<EngineTensor> targets_of(const std::vector<MappedTensor>& tensors);

// The format that holds the numbers of such stored tensors, the parts of one of ours, as they are:
// int4 or int8 in groups of 32 for GGUF's blocks of 32, with offsets where one of them has them;
// int8 in groups of 32 for its blocks of 256, which are rounded again; bf16 for floats.
PackedFormat format_as_stored(std::span<const StoredType> parts);
// Can the integers of such a part be taken over into `format`?
bool keeps_integers(const PackedFormat& format, StoredType part);

// `body`: the format of the layers; nullopt: each tensor as it is stored, and a head whose layers
// are integers is int8, whatever it is stored in. Throws CheckpointError that lists every missing
// and every misshapen tensor.
WeightMap map_weights(const Checkpoint& checkpoint, const std::optional<PackedFormat>& body);

}  // namespace tidemill
