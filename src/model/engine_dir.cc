#include "model/engine_dir.h"

#include <algorithm>
#include <fstream>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/digest.h"
#include "base/text_file.h"
#include "model/json_fields.h"

namespace tidemill {
namespace {

constexpr const char* kLayoutFamily = "host";

constexpr std::string_view kNumbersNames[] = {"f32", "bf16", "int8", "int4"};  // by Numbers
constexpr std::string_view kOffsetsNames[] = {"", "_zero", "_offset"};         // by Offsets
constexpr int32_t kGroups[] = {0, 32, 64, 128};

// Every format that an engine may name.
std::vector<PackedFormat> known_formats() {
  std::vector<PackedFormat> formats = {PackedFormat::kF32, PackedFormat::kBf16,
                                       PackedFormat::kInt8PerChannel};
  for (const Numbers numbers : {Numbers::kInt8, Numbers::kInt4}) {
    for (const Offsets offsets : {Offsets::kNone, Offsets::kZero, Offsets::kOffset}) {
      for (const int32_t group : kGroups) {
        if (group > 0) formats.push_back({numbers, offsets, group});
      }
    }
  }
  return formats;
}

constexpr const char* kDigestKey = "digest";

DamagedEngine damaged(const std::filesystem::path& path, std::string_view reason) {
  return DamagedEngine(
      format("{}: damaged engine: {}. Compile the checkpoint again.", path.string(), reason));
}

PackedFormat format_named(const JsonFields& fields) {
  const std::string name = fields.text("format");
  std::string known;
  for (const PackedFormat& format : known_formats()) {
    if (name_of(format) == name) return format;
    known += (known.empty() ? "" : ", ") + name_of(format);
  }
  throw fields.wrong("format", name, "one of " + known);
}

// The list of tensors while it grows; every tensor begins on the next boundary of the file.
class Layout {
 public:
  explicit Layout(const FormatOf& format_of) : format_of_(format_of) {}

  void weight(std::string name, int64_t n, int64_t k) {
    const PackedFormat format = format_of_(name);
    const auto bytes = static_cast<int64_t>(packed_bytes(format, n, k));
    add({std::move(name), format, n, k, 0, bytes});
  }
  void vector(std::string name, int64_t n) {
    add({std::move(name), PackedFormat::kF32, n, 0, 0, n * static_cast<int64_t>(sizeof(float))});
  }
  std::vector<EngineTensor> take() { return std::move(tensors_); }

 private:
  void add(EngineTensor tensor) {
    tensor.offset = weights_file_bytes(tensors_);
    tensors_.push_back(std::move(tensor));
  }
  const FormatOf& format_of_;
  std::vector<EngineTensor> tensors_;
};

void add_layer(Layout& layout, const Architecture& a, int64_t index) {
  const std::string prefix = format("layers.{}.", index);
  const int64_t heads_size = a.num_heads * a.head_dim;
  const int64_t intermediate = padded_intermediate_size(a);
  layout.vector(prefix + "attention_norm", a.hidden_size);
  layout.weight(prefix + "qkv", a.qkv_size(), a.hidden_size);
  if (a.qkv_bias) layout.vector(prefix + "qkv_bias", a.qkv_size());
  if (a.qk_norm) layout.vector(prefix + "q_norm", a.head_dim);
  if (a.qk_norm) layout.vector(prefix + "k_norm", a.head_dim);
  layout.weight(prefix + "output", a.hidden_size, heads_size);
  if (a.output_bias) layout.vector(prefix + "output_bias", a.hidden_size);
  layout.vector(prefix + "mlp_norm", a.hidden_size);
  layout.weight(prefix + "gate_up", 2 * intermediate, a.hidden_size);
  if (a.mlp_bias) layout.vector(prefix + "gate_up_bias", 2 * intermediate);
  layout.weight(prefix + "down", a.hidden_size, intermediate);
  if (a.mlp_bias) layout.vector(prefix + "down_bias", a.hidden_size);
}

JsonValue to_json(const EngineTensor& tensor) {
  return JsonObject{{"name", tensor.name},     {"format", name_of(tensor.format)},
                    {"n", tensor.n},           {"k", tensor.k},
                    {"offset", tensor.offset}, {"bytes", tensor.bytes}};
}

EngineTensor tensor_from_json(const JsonValue& value) {
  const JsonFields fields(value, "engine.json: tensors");
  constexpr JsonFields::Bounds kBounds{0, int64_t{1} << 50};
  return {.name = fields.text("name"),
          .format = format_named(fields),
          .n = fields.integer({"n"}, kBounds),
          .k = fields.integer({"k"}, kBounds),
          .offset = fields.integer({"offset"}, kBounds),
          .bytes = fields.integer({"bytes"}, kBounds)};
}

void check_version(const JsonFields& fields, const JsonValue& version) {
  if (version != JsonValue(kEngineVersion)) {
    throw std::runtime_error(
        format("{}: the engine's version is {}, this program reads {}. Compile the checkpoint "
               "again.",
               fields.source(), to_json(version), kEngineVersion));
  }
  const std::string family = fields.text("layout_family");
  if (family != kLayoutFamily) {
    throw std::runtime_error(
        format("{}: the weights are packed for {}, this program reads {}. "
               "Compile the checkpoint again.",
               fields.source(), family, kLayoutFamily));
  }
}

// The manifest's digest is that of its members before it, spelled as JsonWriter spells them: blanks
// do not count, every value does.
void check_own_digest(const JsonFields& fields, const JsonObject& members) {
  const std::string digest = fields.text(kDigestKey);
  const JsonObject others(members.begin(), members.end() - 1);
  if (members.back().first != kDigestKey || digest != sha256_of(to_json(JsonValue(others)))) {
    throw std::runtime_error(format("{}: its contents do not have its digest", fields.source()));
  }
}

std::map<std::string, std::string> digests_from_json(const JsonFields& fields) {
  std::map<std::string, std::string> digests;
  const JsonFields names = fields.object("text_digests");
  for (const auto& [name, digest] : fields.find("text_digests")->object()) {
    digests[name] = names.text(name);
  }
  return digests;
}

Manifest manifest_from_json(const JsonValue& value) {
  const JsonFields fields(value, kManifestFileName);
  check_own_digest(fields, value.object());
  Manifest manifest;
  manifest.ranks = static_cast<int>(fields.integer({"ranks"}, {1, 1}));
  manifest.format = format_named(fields);
  manifest.source_digest = fields.text("source_digest");
  manifest.source_name = fields.text("source_name");
  manifest.weights_digest = fields.text("weights_digest");
  manifest.text_digests = digests_from_json(fields);
  if (fields.find("architecture") != nullptr) {
    manifest.architecture = architecture_from_json(*fields.find("architecture"));
  } else {
    throw std::runtime_error(format("{}: architecture is missing", fields.source()));
  }
  for (const JsonValue& tensor : fields.array("tensors")) {
    manifest.tensors.push_back(tensor_from_json(tensor));
  }
  return manifest;
}

void write_text(const std::filesystem::path& path, std::string_view text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.flush();
  if (!file) {
    throw std::runtime_error(
        format("{}: cannot be written: {}", path.string(), std::generic_category().message(errno)));
  }
}

// A file of text, held against its digest; nullopt when the manifest names none of that name.
std::optional<std::string> read_checked(const std::filesystem::path& dir, const Manifest& manifest,
                                        const char* name) {
  const auto digest = manifest.text_digests.find(name);
  std::error_code ignored;
  const bool there = std::filesystem::exists(dir / name, ignored);
  if (digest == manifest.text_digests.end() && !there) return std::nullopt;
  if (digest == manifest.text_digests.end()) throw damaged(dir, format("{} is not its own", name));
  if (!there) throw damaged(dir, format("{} is missing", name));
  std::string text = read_text_file(dir / name);
  if (sha256_of(text) != digest->second) {
    throw damaged(dir, format("the SHA-256 of {} is not {}", name, digest->second));
  }
  return text;
}

}  // namespace

std::string name_of(const PackedFormat& format) {
  std::string name(kNumbersNames[static_cast<size_t>(format.numbers)]);
  if (format.group > 0) name += tidemill::format("_g{}", format.group);
  return name + std::string(kOffsetsNames[static_cast<size_t>(format.offsets)]);
}

int64_t padded_intermediate_size(const Architecture& architecture) {
  return num_panels(architecture.intermediate_size) * kPanelChannels;
}

// No product of sizes here can overflow: the bounds of architecture.cc keep a weight below 2^49
// bytes and a file of 1024 layers below 2^61.
std::vector<EngineTensor> engine_tensors(const Architecture& architecture,
                                         const FormatOf& format_of) {
  Layout layout(format_of);
  layout.weight("embedding", architecture.vocab_size, architecture.hidden_size);
  for (int64_t i = 0; i < architecture.num_layers; ++i) add_layer(layout, architecture, i);
  layout.vector("final_norm", architecture.hidden_size);
  if (!architecture.tied_head)
    layout.weight("head", architecture.vocab_size, architecture.hidden_size);
  return layout.take();
}

FormatOf uniform_formats(const Architecture& architecture, const PackedFormat& body) {
  const bool integers = is_integer(body);
  const std::string head = architecture.tied_head ? "embedding" : "head";
  return [=](std::string_view name) {
    if (integers && name == head) return PackedFormat::kInt8PerChannel;
    if (integers && name == "embedding") return PackedFormat::kBf16;
    return body;
  };
}

std::vector<EngineTensor> engine_tensors(const Architecture& architecture,
                                         const PackedFormat& body) {
  return engine_tensors(architecture, uniform_formats(architecture, body));
}

PackedFormat format_of_layers(const std::vector<EngineTensor>& tensors) {
  for (const EngineTensor& tensor : tensors) {
    if (tensor.name.ends_with(".down")) return tensor.format;
  }
  return PackedFormat::kBf16;
}

ComputeTypes compute_types(const std::vector<EngineTensor>& tensors, const ModelOptions& options) {
  const int activation_bits = options.activation_bits;
  CHECK(activation_bits == 8 || activation_bits == 16, "{} bits", activation_bits);
  const bool has_integers = std::ranges::any_of(
      tensors, [](const EngineTensor& tensor) { return is_integer(tensor.format); });
  return {.floats = format_of_layers(tensors) == PackedFormat::kF32 ? DType::kF32 : DType::kBf16,
          .integer_parts = has_integers ? activation_bits / 8 : 0,
          .int8_cache = options.int8_cache};
}

int64_t weights_file_bytes(const std::vector<EngineTensor>& tensors) {
  if (tensors.empty()) return 0;
  const int64_t end = tensors.back().offset + tensors.back().bytes;
  return (end + kWeightAlignment - 1) / kWeightAlignment * kWeightAlignment;
}

bool is_engine_dir(const std::filesystem::path& dir) {
  std::error_code ignored;
  return std::filesystem::is_regular_file(dir / kManifestFileName, ignored);
}

Manifest read_manifest(const std::filesystem::path& dir) {
  if (!is_engine_dir(dir)) {
    throw std::runtime_error(
        format("{}: is not an engine directory: it has no {}. Make one with "
               "`tidemill compile MODEL --out DIR`.",
               dir.string(), kManifestFileName));
  }
  const std::filesystem::path path = dir / kManifestFileName;
  Result<JsonValue> value = parse_json(read_text_file(path), kFileJsonLimits);
  if (!value) throw damaged(path, value.error().message);
  const JsonValue* version = value->find("version");
  if (version == nullptr || !version->is_integer()) throw damaged(path, "it says no version");
  check_version(JsonFields(*value, path.string()), *version);
  try {
    return manifest_from_json(*value);
  } catch (const std::runtime_error& error) {
    throw damaged(dir, error.what());
  }
}

void check_layout(const Manifest& manifest, const std::filesystem::path& dir) {
  std::map<std::string_view, PackedFormat> formats;
  for (const EngineTensor& tensor : manifest.tensors) formats[tensor.name] = tensor.format;
  const std::vector<EngineTensor> expected =
      engine_tensors(manifest.architecture, [&](std::string_view name) {
        const auto found = formats.find(name);
        return found == formats.end() ? manifest.format : found->second;
      });
  const auto [wanted, listed] = std::mismatch(expected.begin(), expected.end(),
                                              manifest.tensors.begin(), manifest.tensors.end());
  if (wanted != expected.end() || listed != manifest.tensors.end()) {
    throw damaged(dir,
                  format("tensor {} does not have the shape and place that the architecture asks "
                         "for",
                         wanted != expected.end() ? wanted->name : listed->name));
  }
  std::error_code error;
  const uintmax_t bytes = std::filesystem::file_size(dir / kWeightsFileName, error);
  if (error) throw damaged(dir, format("{}: {}", kWeightsFileName, error.message()));
  if (bytes != static_cast<uintmax_t>(weights_file_bytes(expected))) {
    throw damaged(dir, format("{} has {} bytes instead of {}", kWeightsFileName, bytes,
                              weights_file_bytes(expected)));
  }
}

void check_weights(const Manifest& manifest, const std::filesystem::path& dir) {
  const std::string digest = sha256_of_file(dir / kWeightsFileName);
  if (digest != manifest.weights_digest) {
    throw damaged(dir, format("the SHA-256 of {} is {} instead of {}", kWeightsFileName, digest,
                              manifest.weights_digest));
  }
}

JsonValue to_json(const Manifest& manifest) {
  JsonObject text_digests(manifest.text_digests.begin(), manifest.text_digests.end());
  JsonArray tensors;
  for (const EngineTensor& tensor : manifest.tensors) tensors.push_back(to_json(tensor));
  JsonValue json = JsonObject{
      {"version", manifest.version},
      {"layout_family", manifest.layout_family},
      {"ranks", manifest.ranks},
      {"format", name_of(manifest.format)},
      {"source_digest", manifest.source_digest},
      {"source_name", manifest.source_name},
      {"weights_digest", manifest.weights_digest},
      {"text_digests", std::move(text_digests)},
      {"architecture", to_json(manifest.architecture)},
      {"tensors", std::move(tensors)},
  };
  json.set(kDigestKey, sha256_of(to_json(json)));
  return json;
}

void write_manifest(const std::filesystem::path& dir, const Manifest& manifest) {
  write_text(dir / kManifestFileName, to_json(to_json(manifest)) + "\n");
}

TextFiles read_text_files(const std::filesystem::path& dir) {
  const Manifest manifest = read_manifest(dir);
  const std::optional<std::string> text = read_checked(dir, manifest, kTextFileName);
  if (!text) throw damaged(dir, format("{} is missing", kTextFileName));
  const Result<JsonValue> value = parse_json(*text, kFileJsonLimits);
  if (!value) throw damaged(dir, format("{}: {}", kTextFileName, value.error().message));
  const JsonFields fields(*value, (dir / kTextFileName).string());
  TextFiles files;
  files.tokenizer_json = read_checked(dir, manifest, kTokenizerFileName);
  if (fields.find("chat_template") != nullptr) files.chat_template = fields.text("chat_template");
  files.special_tokens = JsonObject{};
  files.generation_defaults = JsonObject{};
  if (fields.find("special_tokens") != nullptr) {
    fields.object("special_tokens");  // complains unless it is one
    files.special_tokens = *fields.find("special_tokens");
  }
  if (fields.find("generation_defaults") != nullptr) {
    fields.object("generation_defaults");
    files.generation_defaults = *fields.find("generation_defaults");
  }
  return files;
}

std::map<std::string, std::string> write_text_files(const std::filesystem::path& dir,
                                                    const TextFiles& files) {
  const JsonValue value = JsonObject{
      {"chat_template", files.chat_template ? JsonValue(*files.chat_template) : JsonValue()},
      {"special_tokens", files.special_tokens},
      {"generation_defaults", files.generation_defaults},
  };
  std::map<std::string, std::string> texts{{kTextFileName, to_json(value) + "\n"}};
  if (files.tokenizer_json) texts[kTokenizerFileName] = *files.tokenizer_json;
  std::map<std::string, std::string> digests;
  for (const auto& [name, text] : texts) {
    write_text(dir / name, text);
    digests[name] = sha256_of(text);
  }
  return digests;
}

}  // namespace tidemill
