#include "checkpoint/checkpoint.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <span>
#include <system_error>
#include <unordered_map>

#include "base/check.h"
#include "checkpoint/detect.h"
#include "checkpoint/gguf.h"
#include "checkpoint/gguf_config.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/source_file.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTokenizerBytes = uint64_t{64} << 20;
constexpr uint64_t kMaxSideFileBytes = uint64_t{4} << 20;
constexpr uint64_t kMaxIndexBytes = uint64_t{64} << 20;

// Side files that say what the engine becomes. Others are only looked for, to be named in messages.
constexpr const char* kSideFiles[] = {
    "config.json",           "generation_config.json",  "tokenizer.json",
    "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};

std::string read_bounded(const fs::path& path, uint64_t most) {
  const SourceFile file(path);
  if (file.size() > most) {
    throw CheckpointError(
        format("{} has {} bytes; {} are allowed.", path.string(), file.size(), most));
  }
  std::string text(file.size(), '\0');
  file.read(0, std::as_writable_bytes(std::span(text)));
  return text;
}

std::vector<FileIdentity> side_files_of(const fs::path& folder) {
  std::vector<FileIdentity> files;
  for (const char* name : kSideFiles) {
    if (fs::is_regular_file(folder / name)) files.push_back(identity_of(folder / name));
  }
  return files;
}

JsonValue read_json_file(const fs::path& path) {
  auto json = parse_json(read_bounded(path, kMaxSideFileBytes), kFileJsonLimits);
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
  std::deque<SourceFile> files;          // what the tensors lie in; they keep their addresses
  std::vector<FileIdentity> side_files;  // as they were before config.json was read
  std::vector<StoredTensor> tensors;
  std::unordered_map<std::string_view, const StoredTensor*> by_name;

  void add(std::vector<StoredTensor> more) {
    std::move(more.begin(), more.end(), std::back_inserter(tensors));
  }

  // When all tensors are there: addresses no longer change.
  void index() {
    for (const StoredTensor& tensor : tensors) {
      if (!by_name.emplace(tensor.name, &tensor).second) {
        throw CheckpointError(fmt::format("{}: tensor \"{}\" stands in another file, too.",
                                          tensor.file(), tensor.name));
      }
    }
  }

  void read_shards(const fs::path& index_path) {
    const ShardIndex shards =
        read_shard_index(read_bounded(index_path, kMaxIndexBytes), index_path.string());
    for (const std::string& name : shards.files) {
      const fs::path file = path / name;
      if (!fs::exists(file)) {
        throw CheckpointError(
            fmt::format("{} names {}, which is not there. Is the download complete?",
                        index_path.string(), name));
      }
      check_link(path, file);
      add(read_safetensors(files.emplace_back(file)));
    }
    index();
    for (const auto& [tensor, name] : shards.file_of_tensor) {
      const auto stored = by_name.find(tensor);
      if (stored == by_name.end() || fs::path(stored->second->file()).filename() != name) {
        throw CheckpointError(fmt::format("{} says that {} holds tensor \"{}\", which it does not.",
                                          index_path.string(), name, tensor));
      }
    }
  }

  void read_folder() {
    side_files = side_files_of(path);
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
    add(read_safetensors(files.emplace_back(file)));
    index();
  }

  void read_gguf_parts(const fs::path& first) {
    kind = CheckpointFormat::kGguf;
    const std::vector<fs::path> parts = gguf_parts(first);
    for (const fs::path& part : parts) {
      if (!fs::exists(part)) throw CheckpointError(format_missing_part(first, part));
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      GgufFile file = read_gguf(files.emplace_back(parts[i]));
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
    const JsonValue* tokens = gguf_metadata.find("tokenizer.ggml.tokens");
    const int64_t rows = embedding->second->shape[0];
    if (tokens != nullptr && tokens->is_array() &&
        static_cast<int64_t>(tokens->array().size()) > rows) {
      throw CheckpointError(fmt::format("{}: there are {} tokens, and the embedding has {} rows.",
                                        first.string(), tokens->array().size(), rows));
    }
    config =
        config_from_gguf(gguf_metadata, by_name.contains("output.weight"), rows, first.string());
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
  return read_bounded(file, name == "tokenizer.json" ? kMaxTokenizerBytes : kMaxSideFileBytes);
}

std::vector<FileIdentity> Checkpoint::sources() const {
  std::vector<FileIdentity> sources;
  for (const SourceFile& file : state_->files) sources.push_back(file.identity());
  sources.insert(sources.end(), state_->side_files.begin(), state_->side_files.end());
  return sources;
}

void Checkpoint::check_unchanged() const {
  for (const FileIdentity& source : sources()) {
    std::error_code ignored;
    if (fs::exists(source.path, ignored) && identity_of(source.path) == source) continue;
    throw CheckpointError(
        fmt::format("{}: was written or replaced while it was read. Start again when nobody "
                    "writes to it.",
                    source.path));
  }
  if (state_->kind == CheckpointFormat::kHuggingFace &&
      side_files_of(state_->path) != state_->side_files) {
    throw CheckpointError(
        fmt::format("{}: a file came in while it was read. Start again when nobody writes to it.",
                    state_->path.string()));
  }
}

const std::string& StoredTensor::file() const { return source->name(); }

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
    case StoredType::kQ5_0:
      return "Q5_0";
    case StoredType::kQ5_1:
      return "Q5_1";
    case StoredType::kQ8_0:
      return "Q8_0";
    case StoredType::kQ2K:
      return "Q2_K";
    case StoredType::kQ3K:
      return "Q3_K";
    case StoredType::kQ4K:
      return "Q4_K";
    case StoredType::kQ5K:
      return "Q5_K";
    case StoredType::kQ6K:
      return "Q6_K";
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
    case StoredType::kF8E8M0:
      return "F8_E8M0";
    case StoredType::kF8E4M3Fnuz:
      return "F8_E4M3FNUZ";
    case StoredType::kF8E5M2Fnuz:
      return "F8_E5M2FNUZ";
    case StoredType::kF6E2M3:
      return "F6_E2M3";
    case StoredType::kF6E3M2:
      return "F6_E3M2";
    case StoredType::kF4:
      return "F4";
    case StoredType::kC64:
      return "C64";
  }
  return "?";
}

}  // namespace tidemill
