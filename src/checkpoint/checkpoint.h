// Other people's models: a Hugging Face folder or a GGUF file, opened as a description and a list
// of named tensors that are not read yet. Trusts nothing it reads. Everything wrong with a file is
// an exception that names the file, the tensor, the offset and the reason (CheckpointError).
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/file_identity.h"
#include "base/json.h"

namespace tidemill {

class CheckpointError : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// How a stored tensor's numbers are coded. Names as the formats spell them.
enum class StoredType {
  kF32,
  kF16,
  kBf16,
  kF64,  // both formats
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,  // GGUF blocks of 32 along a row
  kQ2K,
  kQ3K,
  kQ4K,
  kQ5K,
  kQ6K,  // GGUF blocks of 256, with scales of their parts
  kBool,
  kU8,
  kI8,
  kI16,
  kU16,
  kI32,
  kU32,
  kI64,
  kU64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kF6E2M3,
  kF6E3M2,
  kF4,
  kC64,  // listed, and refused where one of them is needed
};
std::string_view name_of(StoredType type);

class SourceFile;

// A tensor of a checkpoint, row-major, as [rows..., columns]; the numbers stay in the file.
struct StoredTensor {
  std::string name;  // as the file spells it
  StoredType type;
  std::vector<int64_t> shape;          // outermost first, whatever the format's own order
  const SourceFile* source = nullptr;  // owned by the checkpoint
  uint64_t offset = 0;                 // of the numbers in it
  uint64_t bytes = 0;

  const std::string& file() const;  // for messages
};

enum class CheckpointFormat { kHuggingFace, kGguf };

class Checkpoint {
 public:
  // A folder (config.json with safetensors; or one whose only weights are *.gguf) or a GGUF file.
  // Formats that we know and do not read (pickles, GPTQ, adapters, ...) are refused by name, with
  // the way out. checkpoints.md section 10.
  static Checkpoint open(const std::filesystem::path& path);
  Checkpoint(Checkpoint&&) noexcept;
  ~Checkpoint();

  CheckpointFormat format() const;
  const std::filesystem::path& path() const;

  // config.json; for GGUF its metadata translated into the same keys ("architectures",
  // "hidden_size", ...), so that one function reads both.
  const JsonValue& config() const;
  // generation_config.json; null when there is none.
  const JsonValue& generation_config() const;
  // GGUF only: the metadata under their own names; null otherwise.
  const JsonValue& gguf_metadata() const;

  const std::vector<StoredTensor>& tensors() const;
  const StoredTensor* find(std::string_view name) const;

  // Text of a side file of the folder (tokenizer.json, tokenizer_config.json,
  // chat_template.jinja, ...); nullopt when it does not exist. Bounded in size.
  std::optional<std::string> side_file(std::string_view name) const;

  // The files whose bytes decide what compile makes of this checkpoint, for the engine's digest, as
  // they were before the first of them was read.
  std::vector<FileIdentity> sources() const;
  // Throws CheckpointError when one of them was written or replaced since, or came or went.
  void check_unchanged() const;

 private:
  struct State;
  explicit Checkpoint(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Rows [first_row, first_row + num_rows) of a matrix (or the whole vector as one row), as floats.
// `out` holds num_rows * columns floats. Exact: dequantised values are those of the format's
// definition computed in f32. Throws CheckpointError for types that are not read yet.
void read_rows(const StoredTensor& tensor, int64_t first_row, int64_t num_rows, float* out);

// GGUF's blocks of 32: integers with one scale, in Q4_1 and Q5_1 with an offset, too.
//   w = scale (q - zero) + offset
struct StoredBlock {
  uint8_t q[32];
  float scale = 0.0f;   // an f16 number
  float offset = 0.0f;  // an f16 number
};
inline constexpr int64_t kStoredBlock = 32;  // numbers in it

// GGUF's blocks, those of 256 too: numbers that were rounded before.
bool is_block(StoredType type);
// What the blocks of 32 of a type have in common; nullopt for every other type.
struct BlockFacts {
  int bits = 0;  // of q, which is not negative
  int zero = 0;
  bool has_offsets = false;
};
std::optional<BlockFacts> block_facts(StoredType type);

// The same rows as their blocks, for a type that has block_facts().
void read_blocks(const StoredTensor& tensor, int64_t first_row, int64_t num_rows,
                 std::vector<StoredBlock>& out);

}  // namespace tidemill
