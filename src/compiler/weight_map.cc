#include "compiler/weight_map.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_set>

#include "base/check.h"

namespace tidemill {
namespace {

// Our name (inside a layer, or global) and the names of its parts in each format. Biases follow
// their weights: "qkv_bias" comes from q_proj.bias, k_proj.bias, v_proj.bias.
struct NameRow {
  std::string_view ours;
  std::array<std::string_view, 3> hugging_face;
  std::array<std::string_view, 3> gguf;
};
constexpr NameRow kLayerNames[] = {
    {"attention_norm", {"input_layernorm"}, {"attn_norm"}},
    {"qkv",
     {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
     {"attn_q", "attn_k", "attn_v"}},
    {"q_norm", {"self_attn.q_norm"}, {"attn_q_norm"}},
    {"k_norm", {"self_attn.k_norm"}, {"attn_k_norm"}},
    {"output", {"self_attn.o_proj"}, {"attn_output"}},
    {"mlp_norm", {"post_attention_layernorm"}, {"ffn_norm"}},
    {"gate_up", {"mlp.gate_proj", "mlp.up_proj"}, {"ffn_gate", "ffn_up"}},
    {"down", {"mlp.down_proj"}, {"ffn_down"}},
};
constexpr NameRow kGlobalNames[] = {
    {"embedding", {"model.embed_tokens"}, {"token_embd"}},
    {"final_norm", {"model.norm"}, {"output_norm"}},
    {"head", {"lm_head"}, {"output"}},
};

constexpr std::string_view kRopeDivisors = "rope_freqs.weight";

std::string_view without_suffix(std::string_view text, std::string_view suffix) {
  return text.ends_with(suffix) ? text.substr(0, text.size() - suffix.size()) : text;
}

// Their names of the parts of one of our tensors ("layers.3.qkv_bias").
std::vector<std::string> stored_names(std::string_view ours, CheckpointFormat source) {
  const bool gguf = source == CheckpointFormat::kGguf;
  std::string prefix;
  std::string_view local = ours;
  constexpr std::string_view kLayers = "layers.";
  const bool in_layer = ours.starts_with(kLayers);
  if (in_layer) {
    const size_t dot = ours.find('.', kLayers.size());
    const std::string_view index = ours.substr(kLayers.size(), dot - kLayers.size());
    prefix = gguf ? format("blk.{}.", index) : format("model.layers.{}.", index);
    local = ours.substr(dot + 1);
  }
  const std::string_view base = without_suffix(local, "_bias");
  const std::string_view kind = base.size() == local.size() ? ".weight" : ".bias";
  const std::span<const NameRow> rows =
      in_layer ? std::span<const NameRow>(kLayerNames) : std::span<const NameRow>(kGlobalNames);
  const auto row = std::ranges::find(rows, base, &NameRow::ours);
  CHECK(row != rows.end(), "no stored name for {}", ours);
  std::vector<std::string> names;
  for (const std::string_view name : gguf ? row->gguf : row->hugging_face) {
    if (!name.empty()) names.push_back(prefix + std::string(name) + std::string(kind));
  }
  return names;
}

// Exports of a bare base model drop the prefix "model."; wrappers add one.
const StoredTensor* find_with_prefix(const Checkpoint& checkpoint, const std::string& name) {
  if (const StoredTensor* stored = checkpoint.find(name)) return stored;
  if (checkpoint.format() == CheckpointFormat::kGguf) return nullptr;
  if (const StoredTensor* stored = checkpoint.find("model." + name)) return stored;
  return name.starts_with("model.") ? checkpoint.find(name.substr(6)) : nullptr;
}

// Rows of each part; the columns follow from the tensor.
std::vector<int64_t> part_rows(const Architecture& a, const EngineTensor& target,
                               size_t num_parts) {
  if (num_parts == 3) {
    return {a.num_heads * a.head_dim, a.num_kv_heads * a.head_dim, a.num_kv_heads * a.head_dim};
  }
  if (num_parts == 2) return {a.intermediate_size, a.intermediate_size};
  return {target.n};
}

bool can_be_read(StoredType type) {
  switch (type) {
    case StoredType::kF32:
    case StoredType::kF16:
    case StoredType::kBf16:
    case StoredType::kF64:
      return true;
    default:
      return is_block(type);
  }
}

std::string shown(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return "[" + text + "]";
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += "\n  " + item;
  return text;
}

// Buffers that old exports carry along, computed by everybody anew.
bool is_known_buffer(std::string_view name) {
  return name.ends_with(".rotary_emb.inv_freq") || name.ends_with(".masked_bias") ||
         name.ends_with(".attn.bias");
}

class Mapper {
 public:
  Mapper(const Checkpoint& checkpoint, const std::optional<PackedFormat>& body)
      : checkpoint_(checkpoint), body_(body) {}

  WeightMap map() {
    map_.architecture = read_architecture(checkpoint_.config());
    if (checkpoint_.format() == CheckpointFormat::kGguf) complete_from_gguf();
    const std::vector<EngineTensor> targets =
        body_ ? engine_tensors(map_.architecture, *body_)
              : engine_tensors(map_.architecture,
                               [this](std::string_view name) { return as_stored(name); });
    for (const EngineTensor& target : targets) map_.tensors.push_back(map_tensor(target));
    refuse_if_incomplete();
    list_unused();
    return std::move(map_);
  }

 private:
  PackedFormat as_stored(std::string_view name) const {
    const std::string_view head = map_.architecture.tied_head ? "embedding" : "head";
    const PackedFormat format = stored_format(name);
    const bool integer_layers = is_integer(stored_format("layers.0.down"));
    return name == head && integer_layers && !is_integer(format) ? PackedFormat::kInt8PerChannel
                                                                 : format;
  }

  PackedFormat stored_format(std::string_view name) const {
    std::vector<StoredType> types;
    for (const std::string& part : stored_names(name, checkpoint_.format())) {
      const StoredTensor* stored = find_with_prefix(checkpoint_, part);
      if (stored != nullptr) types.push_back(stored->type);
    }
    return format_as_stored(types);
  }

  // GGUF metadata does not say which optional tensors there are; the tensors do.
  void complete_from_gguf() {
    Architecture& a = map_.architecture;
    const auto has = [&](std::string_view name) { return checkpoint_.find(name) != nullptr; };
    a.tied_head = !has("output.weight");
    a.qkv_bias = has("blk.0.attn_q.bias");
    a.output_bias = has("blk.0.attn_output.bias");
    a.mlp_bias = has("blk.0.ffn_gate.bias");
    a.qk_norm = has("blk.0.attn_q_norm.weight");
    const JsonValue* name = checkpoint_.gguf_metadata().find("general.architecture");
    interleaved_ = name != nullptr && *name == JsonValue("llama");
    if (const StoredTensor* stored = checkpoint_.find(kRopeDivisors)) read_divisors(*stored);
  }

  // The divisors have llama3 scaling worked in: it must not be applied a second time.
  void read_divisors(const StoredTensor& stored) {
    RopeDescription& rope = map_.architecture.rope;
    const int64_t pairs = map_.architecture.head_dim / 2;
    if (stored.shape != std::vector<int64_t>{pairs}) {
      misshapen_.push_back(format("{}: {} is {} instead of [{}]", stored.file(), stored.name,
                                  shown(stored.shape), pairs));
      return;
    }
    std::vector<float> divisors(static_cast<size_t>(pairs));
    read_rows(stored, 0, 1, divisors.data());
    for (const float divisor : divisors) {
      if (!(divisor > 0.0f) || !std::isnormal(divisor)) {
        throw CheckpointError(format("{}: {} holds {}; rotary divisors must be finite and above 0",
                                     stored.file(), stored.name, divisor));
      }
    }
    rope.divisors.assign(divisors.begin(), divisors.end());
    if (rope.scaling == RopeScaling::kLlama3) rope.scaling = RopeScaling::kNone;
    used_.insert(&stored);
  }

  MappedTensor map_tensor(const EngineTensor& target) {
    MappedTensor mapped{.target = target, .parts = {}};
    const std::vector<std::string> names = stored_names(target.name, checkpoint_.format());
    const std::vector<int64_t> rows = part_rows(map_.architecture, target, names.size());
    if (names.size() == 2) mapped.arrangement = Arrangement::kAlternatingPanels;
    for (size_t i = 0; i < names.size(); ++i) {
      mapped.parts.push_back(map_part(target, names[i], rows[i]));
      const bool rotated = names.size() == 3 && i < 2;  // q and k
      if (rotated && interleaved_) {
        mapped.parts.back().interleaved_head_dim = map_.architecture.head_dim;
      }
    }
    return mapped;
  }

  TensorPart map_part(const EngineTensor& target, const std::string& name, int64_t rows) {
    const bool is_down = target.name.ends_with(".down");
    TensorPart part{
        .stored = find_with_prefix(checkpoint_, name),
        .rows = rows,
        .columns = target.k == 0 ? 1
                   : is_down     ? map_.architecture.intermediate_size
                                 : target.k,
    };
    if (part.stored == nullptr) {
      missing_.push_back(name);
      return part;
    }
    used_.insert(part.stored);
    check_part(target, part);
    return part;
  }

  void check_part(const EngineTensor& target, const TensorPart& part) {
    const StoredTensor& stored = *part.stored;
    const std::vector<int64_t> expected = target.k == 0
                                              ? std::vector<int64_t>{part.rows}
                                              : std::vector<int64_t>{part.rows, part.columns};
    // Vocabularies are often padded: more rows than config.json admits to.
    const bool may_be_longer = target.name == "embedding" || target.name == "head";
    const bool fits = stored.shape == expected ||
                      (may_be_longer && stored.shape.size() == 2 && stored.shape[0] > part.rows &&
                       stored.shape[1] == part.columns);
    if (!fits) {
      misshapen_.push_back(format("{}: {} is {} instead of {}", stored.file(), stored.name,
                                  shown(stored.shape), shown(expected)));
    } else if (!can_be_read(stored.type)) {
      misshapen_.push_back(format("{}: {} holds {}, which cannot be read as a weight",
                                  stored.file(), stored.name, name_of(stored.type)));
    }
  }

  void refuse_if_incomplete() const {
    if (missing_.empty() && misshapen_.empty()) return;
    std::string message = format("{}: does not hold the {} that its configuration describes",
                                 checkpoint_.path().string(), map_.architecture.family);
    if (!missing_.empty()) {
      message += format("\n{} tensors are missing:{}", missing_.size(), joined(missing_));
    }
    if (!misshapen_.empty()) {
      message += format("\n{} tensors do not fit:{}", misshapen_.size(), joined(misshapen_));
    }
    throw CheckpointError(message);
  }

  void list_unused() {
    for (const StoredTensor& stored : checkpoint_.tensors()) {
      const bool tied_copy = map_.architecture.tied_head && stored.name == "lm_head.weight";
      if (used_.contains(&stored) || tied_copy || is_known_buffer(stored.name)) continue;
      map_.unused.push_back(stored.name);
    }
  }

  const Checkpoint& checkpoint_;
  const std::optional<PackedFormat> body_;
  WeightMap map_;
  bool interleaved_ = false;
  std::vector<std::string> missing_;
  std::vector<std::string> misshapen_;
  std::unordered_set<const StoredTensor*> used_;
};

}  // namespace

ChannelSource source_of(const MappedTensor& tensor, int64_t channel) {
  const TensorPart* part = nullptr;
  int64_t row = channel;
  if (tensor.arrangement == Arrangement::kAlternatingPanels) {
    const int64_t panel = channel / kPanelChannels;
    part = &tensor.parts[static_cast<size_t>(panel % 2)];
    row = panel / 2 * kPanelChannels + channel % kPanelChannels;
    if (row >= part->rows) return {};
  } else {
    part = tensor.parts.data();
    while (row >= part->rows) row -= (part++)->rows;
  }
  if (part->interleaved_head_dim > 0) {
    const int64_t half = part->interleaved_head_dim / 2;
    const int64_t in_head = row % part->interleaved_head_dim;
    const int64_t stored = in_head < half ? 2 * in_head : 2 * (in_head - half) + 1;
    row += stored - in_head;
  }
  return {.part = part, .row = row};
}

std::vector<EngineTensor> targets_of(const std::vector<MappedTensor>& tensors) {
  std::vector<EngineTensor> targets;
  for (const MappedTensor& tensor : tensors) targets.push_back(tensor.target);
  return targets;
}

PackedFormat format_as_stored(std::span<const StoredType> parts) {
  PackedFormat format{Numbers::kInt4, Offsets::kNone, kStoredBlock};
  for (const StoredType part : parts) {
    if (!is_block(part)) return PackedFormat::kBf16;
    const std::optional<BlockFacts> facts = block_facts(part);
    if (!facts || facts->bits > 4) format.numbers = Numbers::kInt8;
    if (facts && facts->has_offsets) format.offsets = Offsets::kOffset;
  }
  // What is rounded gets no offset, and what has one of its own beside it is rounded, too.
  const bool rounded = std::ranges::any_of(parts, [](StoredType t) { return !block_facts(t); });
  if (rounded) format.offsets = Offsets::kNone;
  return parts.empty() ? PackedFormat::kBf16 : format;
}

bool keeps_integers(const PackedFormat& format, StoredType part) {
  const std::optional<BlockFacts> facts = block_facts(part);
  if (!facts || format.group != kStoredBlock || format.offsets == Offsets::kZero) return false;
  if (facts->has_offsets && format.offsets == Offsets::kNone) return false;
  return format.numbers == Numbers::kInt8 || (format.numbers == Numbers::kInt4 && facts->bits == 4);
}

WeightMap map_weights(const Checkpoint& checkpoint, const std::optional<PackedFormat>& body) {
  return Mapper(checkpoint, body).map();
}

}  // namespace tidemill
