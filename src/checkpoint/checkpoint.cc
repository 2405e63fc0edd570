#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <fstream>
#include <iterator>
#include <unordered_map>

#include "base/check.h"
#include "base/mapped_file.h"
#include "checkpoint/detect.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/safetensors.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxTokenizerBytes = uintmax_t{64} << 20;
constexpr uintmax_t kMaxSideFileBytes = uintmax_t{4} << 20;
constexpr uintmax_t kMaxIndexBytes = uintmax_t{64} << 20;

void check_regular(const fs::path& path) {
  if (!fs::is_regular_file(path)) {
    throw CheckpointError(format("{} must be a file.", path.string()));
  }
}

std::string read_text(const fs::path& path, uintmax_t most) {
  check_regular(path);
  if (fs::file_size(path) > most) {
    throw CheckpointError(
        format("{} has {} bytes; {} are allowed.", path.string(), fs::file_size(path), most));
  }
  std::ifstream in(path, std::ios::binary);
  if (!in) throw CheckpointError(format("{} cannot be read.", path.string()));
  return {std::istreambuf_iterator<char>(in), {}};
}

JsonValue read_json_file(const fs::path& path) {
  auto json = parse_json(read_text(path, kMaxSideFileBytes), kFileJsonLimits);
  if (!json) throw CheckpointError(format("{}: {}.", path.string(), json.error().message));
  return std::move(*json);
}

// The names in an index are a stranger's. A link may lead to a file of the same folder, or, from
// NAME/snapshots/REVISION of a download cache, to one in NAME/blobs.
void check_link(const fs::path& folder, const fs::path& file) {
  if (!fs::is_symlink(file)) return;
  const fs::path target = fs::canonical(file).parent_path();
  const fs::path root = fs::canonical(folder);
  const fs::path snapshots = root.parent_path();
  if (target == root) return;
  if (snapshots.filename() == "snapshots" && target == snapshots.parent_path() / "blobs") return;
  throw CheckpointError(
      format("{} is a link to a file outside its checkpoint, which is not followed. Copy the file "
             "here, or name the folder where it lies.",
             file.string()));
}

// An integer of a part's metadata; 0 when it is absent, -1 when it is something else.
int64_t split_number(const JsonValue& metadata, std::string_view key) {
  const JsonValue* value = metadata.find(key);
  if (value == nullptr) return 0;
  return value->fits_int64() ? value->integer() : -1;
}

// A part must be what its name says. Files that are no part say 0 or nothing.
void check_split(const JsonValue& metadata, const fs::path& path, size_t index, size_t num_parts) {
  const int64_t count = split_number(metadata, "split.count");
  if (std::max<int64_t>(count, 1) != static_cast<int64_t>(num_parts) || count < 0) {
    throw CheckpointError(format("{}: split.count is {}, and by the file's name it is {} of {}.",
                                 path.string(), count, index + 1, num_parts));
  }
  const int64_t number = split_number(metadata, "split.no");
  if (number != static_cast<int64_t>(index)) {
    throw CheckpointError(format("{}: split.no is {}, and by the file's name it is {}.",
                                 path.string(), number, index));
  }
}

}  // namespace

struct Checkpoint::State {
  CheckpointFormat kind = CheckpointFormat::kHuggingFace;
  fs::path path;
  JsonValue config;
  JsonValue generation_config;
  JsonValue gguf_metadata;
  std::vector<MappedFile> files;  // what the tensors' bytes lie in
  std::vector<fs::path> weight_files;
  std::vector<StoredTensor> tensors;
  std::unordered_map<std::string_view, const StoredTensor*> by_name;

  std::span<const std::byte> map(const fs::path& file) {
    check_regular(file);
    weight_files.push_back(file);
    return files.emplace_back(file).bytes();
  }

  void add(std::vector<StoredTensor> more) {
    std::move(more.begin(), more.end(), std::back_inserter(tensors));
  }

  // When all tensors are there: addresses no longer change.
  void index() {
    for (const StoredTensor& tensor : tensors) {
      if (!by_name.emplace(tensor.name, &tensor).second) {
        throw CheckpointError(fmt::format("{}: tensor \"{}\" stands in another file, too.",
                                          tensor.file, tensor.name));
      }
    }
  }

  void read_shards(const fs::path& index_path) {
    const ShardIndex shards =
        read_shard_index(read_text(index_path, kMaxIndexBytes), index_path.string());
    for (const std::string& name : shards.files) {
      const fs::path file = path / name;
      if (!fs::exists(file)) {
        throw CheckpointError(
            fmt::format("{} names {}, which is not there. Is the download complete?",
                        index_path.string(), name));
      }
      check_link(path, file);
      add(read_safetensors(map(file), file.string()));
    }
    index();
    for (const auto& [tensor, name] : shards.file_of_tensor) {
      const auto stored = by_name.find(tensor);
      if (stored == by_name.end() || fs::path(stored->second->file).filename() != name) {
        throw CheckpointError(fmt::format("{} says that {} holds tensor \"{}\", which it does not.",
                                          index_path.string(), name, tensor));
      }
    }
  }

  void read_folder() {
    config = read_json_file(path / "config.json");
    if (fs::exists(path / "generation_config.json")) {
      generation_config = read_json_file(path / "generation_config.json");
    }
    refuse_unsupported(path, config);
    if (const fs::path index_path = path / "model.safetensors.index.json"; fs::exists(index_path)) {
      read_shards(index_path);
      return;
    }
    const fs::path file = only_safetensors(path);
    add(read_safetensors(map(file), file.string()));
    index();
  }

  void read_gguf_parts(const fs::path& first) {
    kind = CheckpointFormat::kGguf;
    const std::vector<fs::path> parts = gguf_parts(first);
    for (const fs::path& part : parts) {
      if (!fs::exists(part)) throw CheckpointError(format_missing_part(first, part));
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      GgufFile file = read_gguf(map(parts[i]), parts[i].string());
      check_split(file.metadata, parts[i], i, parts.size());
      if (gguf_metadata.is_null()) gguf_metadata = std::move(file.metadata);
      add(std::move(file.tensors));
    }
    const int64_t expected = split_number(gguf_metadata, "split.tensors.count");
    if (parts.size() > 1 && expected != static_cast<int64_t>(tensors.size())) {
      throw CheckpointError(
          fmt::format("{}: split.tensors.count is {}, and the parts hold {} tensors.",
                      first.string(), expected, tensors.size()));
    }
    index();
    const auto embedding = by_name.find("token_embd.weight");
    if (embedding == by_name.end() || embedding->second->shape.size() != 2) {
      throw CheckpointError(
          fmt::format("{}: tensor \"token_embd.weight\" is missing.", first.string()));
    }
    config = config_from_gguf(gguf_metadata, by_name.contains("output.weight"),
                              embedding->second->shape[0], first.string());
  }

  static std::string format_missing_part(const fs::path& first, const fs::path& part) {
    return fmt::format("{} is one of several parts, and {} is not there.", first.string(),
                       part.filename().string());
  }
};

Checkpoint::Checkpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}
Checkpoint::Checkpoint(Checkpoint&&) noexcept = default;
Checkpoint::~Checkpoint() = default;

Checkpoint Checkpoint::open(const fs::path& path) {
  auto state = std::make_unique<State>();
  state->path = path;
  const FoundFormat found = detect_format(path);
  if (found.gguf.empty()) {
    state->read_folder();
  } else {
    state->read_gguf_parts(found.gguf);
  }
  return Checkpoint(std::move(state));
}

CheckpointFormat Checkpoint::format() const { return state_->kind; }
const fs::path& Checkpoint::path() const { return state_->path; }
const JsonValue& Checkpoint::config() const { return state_->config; }
const JsonValue& Checkpoint::generation_config() const { return state_->generation_config; }
const JsonValue& Checkpoint::gguf_metadata() const { return state_->gguf_metadata; }
const std::vector<StoredTensor>& Checkpoint::tensors() const { return state_->tensors; }

const StoredTensor* Checkpoint::find(std::string_view name) const {
  const auto found = state_->by_name.find(name);
  return found == state_->by_name.end() ? nullptr : found->second;
}

std::optional<std::string> Checkpoint::side_file(std::string_view name) const {
  if (state_->kind == CheckpointFormat::kGguf) return std::nullopt;
  const fs::path file = state_->path / name;
  if (!fs::is_regular_file(file)) return std::nullopt;
  return read_text(file, name == "tokenizer.json" ? kMaxTokenizerBytes : kMaxSideFileBytes);
}

std::vector<fs::path> Checkpoint::source_files() const {
  std::vector<fs::path> files = state_->weight_files;
  if (state_->kind == CheckpointFormat::kGguf) return files;
  for (const char* name :
       {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "chat_template.jinja"}) {
    if (fs::is_regular_file(state_->path / name)) files.push_back(state_->path / name);
  }
  return files;
}

std::string_view name_of(StoredType type) {
  switch (type) {
    case StoredType::kF32:
      return "F32";
    case StoredType::kF16:
      return "F16";
    case StoredType::kBf16:
      return "BF16";
    case StoredType::kF64:
      return "F64";
    case StoredType::kQ4_0:
      return "Q4_0";
    case StoredType::kQ4_1:
      return "Q4_1";
    case StoredType::kQ8_0:
      return "Q8_0";
    case StoredType::kBool:
      return "BOOL";
    case StoredType::kU8:
      return "U8";
    case StoredType::kI8:
      return "I8";
    case StoredType::kI16:
      return "I16";
    case StoredType::kU16:
      return "U16";
    case StoredType::kI32:
      return "I32";
    case StoredType::kU32:
      return "U32";
    case StoredType::kI64:
      return "I64";
    case StoredType::kU64:
      return "U64";
    case StoredType::kF8E4M3:
      return "F8_E4M3";
    case StoredType::kF8E5M2:
      return "F8_E5M2";
  }
  return "?";
}

}  // namespace tidemill
