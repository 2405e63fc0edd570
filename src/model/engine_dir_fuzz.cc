// An engine directory: whatever its manifest and text.json say under a right digest, it is refused
// by an exception, or it can be mapped and bound. A wrong digest is refused first, so this target
// writes right ones.
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <stdexcept>

#include "base/digest.h"
#include "base/fuzz_target.h"
#include "model/engine_dir.h"
#include "model/load.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr int64_t kMaxWeights = 1 << 24;

// One folder for the whole run, in memory where there is such a place.
class Folder {
 public:
  Folder() {
    const fs::path parent = fs::exists("/dev/shm") ? fs::path("/dev/shm") : "/tmp";
    std::string name = (parent / "tidemill-fuzz-XXXXXX").string();
    CHECK(::mkdtemp(name.data()) != nullptr, "no folder in {}", parent.string());
    path_ = name;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  void write(const char* name, std::string_view text) const {
    std::ofstream(path_ / name, std::ios::binary | std::ios::trunc) << text;
  }

 private:
  fs::path path_;
};

Architecture tiny() {
  return {.family = "llama",
          .hidden_size = 8,
          .num_layers = 1,
          .num_heads = 2,
          .num_kv_heads = 1,
          .head_dim = 4,
          .intermediate_size = 8,
          .vocab_size = 17,
          .max_positions = 64};
}

Manifest manifest_of(Architecture architecture) {
  Manifest manifest;
  manifest.format = PackedFormat::kF32;
  manifest.tensors = engine_tensors(architecture, manifest.format);
  manifest.architecture = std::move(architecture);
  return manifest;
}

// With the digest that its other members have.
void write_signed(const Folder& folder, JsonValue manifest) {
  if (manifest.is_object()) {
    std::erase_if(manifest.object(), [](const JsonMember& m) { return m.first == "digest"; });
    manifest.set("digest", sha256_of(to_json(manifest)));
  }
  folder.write(kManifestFileName, to_json(manifest));
}

void load(const Folder& folder) {
  const Manifest manifest = read_manifest(folder.path());
  const JsonValue stored = to_json(manifest);
  write_manifest(folder.path(), manifest);
  CHECK(to_json(read_manifest(folder.path())) == stored, "the manifest reads differently");
  const int64_t bytes = weights_file_bytes(manifest.tensors);
  if (bytes < 0 || bytes > kMaxWeights) return;
  const fs::path weights = folder.path() / kWeightsFileName;
  folder.write(kWeightsFileName, "");
  fs::resize_file(weights, static_cast<uintmax_t>(bytes));
  const Model model(folder.path());
  CHECK(model.weight_bytes() == bytes, "{} of {} bytes are mapped", model.weight_bytes(), bytes);
  CHECK(model.layers().size() == static_cast<size_t>(model.architecture().num_layers), "layers");
}

void load_text(const Folder& folder, std::string_view text) {
  Manifest manifest = manifest_of(tiny());
  folder.write(kTextFileName, text);
  manifest.text_digests[kTextFileName] = sha256_of(text);
  write_manifest(folder.path(), manifest);
  const TextFiles files = read_text_files(folder.path());
  CHECK(files.special_tokens.is_object() && files.generation_defaults.is_object(), "no objects");
}

}  // namespace

void fuzz_one(std::string_view input) {
  static const Folder folder;
  try {
    if (input.starts_with('t')) return load_text(folder, input.substr(1));
    const auto json = parse_json(input, kFileJsonLimits);
    if (json) {
      write_signed(folder, *json);
    } else {
      folder.write(kManifestFileName, input);
    }
    load(folder);
  } catch (const std::runtime_error& error) {
    CHECK(std::string_view(error.what()).size() > 10, "no reason: {}", error.what());
  }
}

std::vector<std::string> fuzz_seeds() {
  Architecture other = tiny();
  other.tied_head = other.qkv_bias = other.qk_norm = true;
  other.rope.scaling = RopeScaling::kLlama3;
  other.rope.divisors = {1.0, 2.0};
  other.eos_token_ids = {1, 2};
  return {to_json(to_json(manifest_of(tiny()))), to_json(to_json(manifest_of(other))),
          R"(t{"chat_template":"{{ x }}","special_tokens":{"eos_token":"</s>"},)"
          R"("generation_defaults":{"temperature":0.5}})",
          R"({"version":1})", "{"};
}

}  // namespace tidemill
