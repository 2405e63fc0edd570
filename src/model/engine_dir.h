// The engine directory: a model compiled for us, on disk.
//
//   engine.json      what it is: architecture, format, packing version, ranks, digests, tensors
//   rank0.weights    packed weights, each on a 4096-byte boundary; mapped read-only, or copied into
//                    huge pages
//   tokenizer.json   when the checkpoint has a tokenizer
//   text.json        special tokens, chat template, generation defaults
//
// Written beside the target and renamed: a directory with the final name is complete. One whose
// manifest does not match what is asked for is built again, never guessed at. engine.json holds the
// SHA-256 of every other file, and of itself: a byte that changed is found before a token is
// computed from it. The small files are compared whenever they are read; the weights when an engine
// is opened (compiler/check_engine.h), because that takes as long as reading them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "kernels/packed_weight.h"
#include "model/architecture.h"

namespace tidemill {

// Raised when the layout of packed weights or the manifest changes.
inline constexpr int kEngineVersion = 5;

// An engine of this version whose files are not what was written. Others (of another version, of
// nobody) are a plain std::runtime_error.
class DamagedEngine : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A tensor of rank0.weights. Vectors (norms, biases) are f32, unpacked, with k = 0.
struct EngineTensor {
  std::string name;  // our name: "embedding", "head", "layers.3.qkv", "layers.3.attention_norm"
  PackedFormat format = PackedFormat::kF32;
  int64_t n = 0;
  int64_t k = 0;       // 0 for a vector of n floats
  int64_t offset = 0;  // bytes in the weights file
  int64_t bytes = 0;
  bool operator==(const EngineTensor&) const = default;
};

inline constexpr int64_t kWeightAlignment = 4096;  // of every tensor in the weights file

// The tensors that an engine of this architecture consists of, in the order of the file, laid out:
// the compiler writes exactly these, and whoever loads an engine expects exactly these. Embedding
// and head have vocab_size rows; what a checkpoint stores beyond them is padding. `format_of` says
// how a matrix is packed, by its name.
using FormatOf = std::function<PackedFormat(std::string_view name)>;
std::vector<EngineTensor> engine_tensors(const Architecture& architecture,
                                         const FormatOf& format_of);
// An engine whose layers are all `body`: with integers the head is int8, one scale for each channel
// (its input keeps 16 bits), and an embedding of its own stays bf16, of which a step reads a few
// rows.
FormatOf uniform_formats(const Architecture& architecture, const PackedFormat& body);
std::vector<EngineTensor> engine_tensors(const Architecture& architecture,
                                         const PackedFormat& body);

// How a network is computed, of what its weights leave open.
struct ModelOptions {
  // What the layers' integer products read: 8 bits, or 16, which is more exact than bf16 and takes
  // twice the arithmetic (quantized_rows.h). The head always reads 16.
  int activation_bits = 8;
  bool int8_cache = false;  // keys and values are int8 (kv_layout.h), not floats
};

// Of the head where it is of integers, whatever activation_bits is: rounding what the logits are
// made of costs most.
inline constexpr int32_t kHeadInputParts = 2;

// What a network of such weights is computed in.
struct ComputeTypes {
  DType floats = DType::kBf16;  // inputs of float products; queries, keys and values but for int8
  // Inputs of the layers' integer products are rounded from f32, to 8 bits (1) or 16 (2); 0 where
  // no weight is an integer.
  int32_t integer_parts = 0;
  bool int8_cache = false;

  DType cache() const { return int8_cache ? DType::kInt8 : floats; }  // keys and values
  DType queries() const { return int8_cache ? DType::kF32 : floats; }
  // Runs of bytes that meet int8 keys and values: queries and probabilities keep 16 bits of them.
  int32_t attention_parts() const { return int8_cache ? 2 : 1; }
  bool operator==(const ComputeTypes&) const = default;
};
ComputeTypes compute_types(const std::vector<EngineTensor>& tensors, const ModelOptions& options);

// What an engine is called by: the format of a layer's last product.
PackedFormat format_of_layers(const std::vector<EngineTensor>& tensors);
int64_t weights_file_bytes(const std::vector<EngineTensor>& tensors);
// Channels of gate (and of up) in the gate_up weight: whole panels, so that they can alternate.
int64_t padded_intermediate_size(const Architecture& architecture);

struct Manifest {
  int version = kEngineVersion;
  std::string layout_family = "host";  // who can read the packing
  int ranks = 1;
  PackedFormat format = PackedFormat::kBf16;  // of the layers; `tensors` says it one by one
  std::string source_digest;                  // of the checkpoint's files and every build option
  std::string source_name;                    // the model id or folder as configured, for people
  std::string weights_digest;                 // SHA-256 of rank0.weights
  std::map<std::string, std::string> text_digests;  // SHA-256 by file name
  Architecture architecture;
  std::vector<EngineTensor> tensors;
};

// What text/ and api/ need, beside tokenizer.json.
struct TextFiles {
  std::optional<std::string> tokenizer_json;
  std::optional<std::string> chat_template;
  JsonValue special_tokens;       // object: "bos_token" -> spelling, ...
  JsonValue generation_defaults;  // object: temperature, top_p, top_k ... of generation_config.json
};

inline constexpr const char* kWeightsFileName = "rank0.weights";
inline constexpr const char* kManifestFileName = "engine.json";
inline constexpr const char* kTextFileName = "text.json";
inline constexpr const char* kTokenizerFileName = "tokenizer.json";

// "f32", "bf16", "int8", "int8_g128", "int4_g32_zero", "int4_g32_offset".
std::string name_of(const PackedFormat& format);

// Says only that the folder calls itself an engine; read_manifest says whether it is a good one.
bool is_engine_dir(const std::filesystem::path& dir);
// Throws DamagedEngine, or std::runtime_error with another reason: missing, other version, other
// layout.
Manifest read_manifest(const std::filesystem::path& dir);
// Throws DamagedEngine unless the tensors are those of engine_tensors() and fill the weights file
// of `dir` exactly.
void check_layout(const Manifest& manifest, const std::filesystem::path& dir);
// Throws DamagedEngine unless the weights file has its digest. Reads all of it.
void check_weights(const Manifest& manifest, const std::filesystem::path& dir);
// Throws DamagedEngine when a file is not the one that the manifest of `dir` names.
TextFiles read_text_files(const std::filesystem::path& dir);

// With the digest of everything else as its last member.
JsonValue to_json(const Manifest& manifest);
void write_manifest(const std::filesystem::path& dir, const Manifest& manifest);
// Returns the digests of what it wrote, for the manifest.
std::map<std::string, std::string> write_text_files(const std::filesystem::path& dir,
                                                    const TextFiles& files);

}  // namespace tidemill
