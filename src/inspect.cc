// tidemill inspect: what this machine can run, what a model holds, and how it would fit.
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <cstdio>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "compiler/text_files.h"
#include "compiler/weight_map.h"
#include "draft_model.h"
#include "fact_sheet.h"
#include "kernels/element_bytes.h"
#include "kernels/select.h"
#include "loaded_model.h"
#include "machine_calibration.h"
#include "measure/machine_facts.h"
#include "model/load.h"
#include "parallel/available_memory.h"
#include "parallel/topology.h"
#include "server/openapi.h"
#include "verbs.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr size_t kShownDigest = 12;  // digits, for people

std::string mebibytes(int64_t bytes) {
  return format("{:.1f} MiB", static_cast<double>(bytes) / (1024.0 * 1024.0));
}

Fact number(std::string name, int64_t value) {
  return {std::move(name), std::to_string(value), value};
}

Fact memory(const std::string& name, int64_t bytes) {
  return {name, mebibytes(bytes), bytes, name + "_bytes"};
}

FactSection machine(const Settings& settings) {
  const int cores = static_cast<int>(usable_cores().size());
  const int workers = settings.workers.num_threads > 0 ? settings.workers.num_threads : cores;
  const Kernels& chosen = select_kernels(settings.model.isa);
  return {"machine",
          {{"processor", this_processor().model},
           {"workers", format("{} (usable cores: {})", workers, cores), workers},
           memory("available", available_memory()),
           {"variant", format("{}: {}", chosen.name, chosen.description), chosen.name}}};
}

FactSection all_variants() {
  FactSection section{"variants", {}};
  for (const Variant& variant : variants()) {
    const bool runs = variant.why_not.empty();
    section.facts.push_back({variant.kernels->name,
                             format("{}; {}", runs ? "runs here" : "not here, " + variant.why_not,
                                    variant.kernels->description),
                             runs});
  }
  return section;
}

// For programs all of it, as the file in the cache has it.
FactSection calibration_facts(const Settings& settings) {
  FactSection section{"calibration", {}};
  WorkerPool workers(settings.workers);
  const MachineCalibration machine =
      machine_calibration(settings.model, select_kernels(settings.model.isa), workers);
  section.facts.push_back({"origin", machine.origin});
  if (!machine.numbers) return section;
  const Calibration& numbers = *machine.numbers;
  section.facts.push_back({"limits", describe(numbers)});
  for (const ProductTimes& times : numbers.products) {
    const PackedWeight weight[] = {{.format = times.format, .n = 4096, .k = 4096}};
    std::string line =
        format("{:>5.1f} free tokens; ns per KiB of weights", free_tokens(numbers, weight));
    for (size_t r = 0; r < kCalibratedRows.size(); ++r) {
      const double seconds = times.seconds_per_byte[r];
      line += seconds > 0.0 ? format(" {:.0f}", seconds * 1024e9) : " ?";
    }
    section.facts.push_back({name_of(times.format), line});
  }
  for (const std::string& sentence : numbers.set_aside) {
    section.facts.push_back({"set aside", sentence});
  }
  section.value = json_of(numbers);
  section.value.set("origin", machine.origin);
  return section;
}

FactSection network(const Architecture& a) {
  return {"network",
          {{"family", a.family},
           number("layers", a.num_layers),
           number("hidden", a.hidden_size),
           {"heads",
            format("{}, {} for keys and values, of {}", a.num_heads, a.num_kv_heads, a.head_dim),
            a.num_heads},
           number("feed-forward", a.intermediate_size),
           number("vocabulary", a.vocab_size),
           number("positions", a.max_positions)}};
}

FactSection text_facts(const TextFiles& files, const Architecture& architecture) {
  // The template is only looked for; a checkpoint's may be one that this build cannot render.
  const TextParts parts =
      make_text_parts({.tokenizer_json = files.tokenizer_json}, architecture, ModelSettings{});
  const int64_t tokens = parts.tokenizer ? parts.tokenizer->vocab_size() : 0;
  return {
      "text",
      {{"tokenizer", tokens > 0 ? format("{} tokens", tokens) : "none: token ids only", tokens},
       {"chat template", files.chat_template ? "yes" : "none", files.chat_template.has_value()}}};
}

// What the draft model takes that settings name, compiled or not.
CompanionMemory draft_memory(const Settings& settings, const MemoryWishes& wishes) {
  const std::string& name = settings.model.draft_model;
  if (name.empty()) return {};
  const fs::path path = local_model(name);
  if (is_engine_dir(path)) {
    const Model model(path, model_options(settings.model));
    return companion_memory(model.architecture(), model.compute_types(), model.weight_bytes(),
                            wishes);
  }
  const OpenOptions options = draft_options(settings);
  const WeightMap map =
      map_weights(Checkpoint::open(path), packed_format_of(options.dtype, options.quantize));
  const std::vector<EngineTensor> targets = targets_of(map.tensors);
  return companion_memory(map.architecture, compute_types(targets, model_options(settings.model)),
                          weights_file_bytes(targets), wishes);
}

MemoryWishes wishes_of(const Settings& settings, const Architecture& architecture) {
  MemoryWishes wishes = memory_wishes(settings, architecture);
  wishes.companion = draft_memory(settings, wishes);
  return wishes;
}

FactSection plan_facts(const MemoryPlan& plan, const Settings& settings) {
  FactSection section{
      "memory plan",
      {memory("available", plan.available_bytes),
       memory("weights", plan.weight_bytes),
       memory("workspace", plan.workspace_bytes),
       Fact{"KV cache", mebibytes(plan.kv_bytes()), plan.kv_bytes(), "kv_bytes"},
       Fact{"KV numbers", name_of(plan.cache), name_of(plan.cache), "kv_numbers"},
       {"KV blocks",
        format("{} of {} tokens; {} hold one sequence of {} tokens", plan.num_blocks,
               kTokensPerBlock, plan.longest_blocks, plan.wishes.limits.max_model_len),
        plan.num_blocks, "kv_blocks"}}};
  if (const std::string& draft = settings.model.draft_model; !draft.empty()) {
    section.facts.push_back({"draft model", draft + ", counted with it", draft});
  }
  const std::string refusal = plan.refusal();
  section.facts.push_back({"fits", refusal.empty() ? "yes" : "no: " + refusal, refusal.empty()});
  return section;
}

// "layers.12.qkv" and its like in the other layers are one line.
std::string without_numbers(const std::string& name) {
  std::string out;
  for (size_t i = 0; i < name.size();) {
    const bool number =
        std::isdigit(static_cast<unsigned char>(name[i])) != 0 && i > 0 && name[i - 1] == '.';
    size_t end = i + 1;
    while (number && end < name.size() && std::isdigit(static_cast<unsigned char>(name[end])))
      ++end;
    out += number ? "*" : name.substr(i, 1);
    i = end;
  }
  return out;
}

// One line for all tensors that differ only by the numbers in their names.
class TensorTable {
 public:
  void add(const std::string& name, std::string_view type, const std::vector<int64_t>& shape) {
    Line line{.name = without_numbers(name), .type = std::string(type), .shape = shape};
    const auto found = std::find_if(lines_.begin(), lines_.end(), [&](const Line& other) {
      return other.name == line.name && other.type == line.type && other.shape == line.shape;
    });
    ++(found != lines_.end() ? *found : lines_.emplace_back(std::move(line))).count;
  }
  FactSection section() const {
    FactSection out{"tensors", {}};
    JsonArray list;
    for (const Line& line : lines_) {
      const std::string sizes = format("{}", fmt::join(line.shape, " x "));
      out.facts.push_back({line.name, format("{:>4} x {:<6} {}", line.count, line.type, sizes)});
      list.push_back(JsonObject{{"name", line.name},
                                {"count", line.count},
                                {"type", line.type},
                                {"shape", JsonArray(line.shape.begin(), line.shape.end())}});
    }
    out.value = std::move(list);
    return out;
  }

 private:
  struct Line {
    std::string name;
    std::string type;
    std::vector<int64_t> shape;
    int count = 0;
  };
  std::vector<Line> lines_;
};

void add_engine(FactSheet& sheet, const fs::path& dir, const Settings& settings) {
  const Model model(dir, model_options(settings.model));
  const Manifest& manifest = model.manifest();
  const auto digest = [](std::string name, const std::string& hex) {
    return Fact{std::move(name), hex.substr(0, kShownDigest) + "...", hex};
  };
  sheet.add({"engine",
             {{"format", std::string(name_of(manifest.format))},
              {"source", manifest.source_name},
              digest("source digest", manifest.source_digest),
              digest("weights digest", manifest.weights_digest),
              memory("weights", model.weight_bytes()),
              number("version", manifest.version)}});
  sheet.add(network(model.architecture()));
  sheet.add(text_facts(read_text_files(dir), model.architecture()));
  sheet.add(
      plan_facts(plan_memory(model.architecture(), model.compute_types(), model.weight_bytes(),
                             wishes_of(settings, model.architecture()), available_memory()),
                 settings));
  TensorTable tensors;
  for (const EngineTensor& tensor : manifest.tensors) {
    const auto shape = tensor.k == 0 ? std::vector{tensor.n} : std::vector{tensor.n, tensor.k};
    tensors.add(tensor.name, name_of(tensor.format), shape);
  }
  sheet.add(tensors.section());
}

void add_checkpoint(FactSheet& sheet, const fs::path& path, const Settings& settings) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  const WeightMap map =
      map_weights(checkpoint, packed_format_of(settings.model.dtype, settings.model.quantize));
  const Architecture& architecture = map.architecture;
  const std::vector<EngineTensor> targets = targets_of(map.tensors);
  const ComputeTypes types = compute_types(targets, model_options(settings.model));
  int64_t bytes = 0;
  TensorTable tensors;
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    bytes += static_cast<int64_t>(tensor.bytes);
    tensors.add(tensor.name, name_of(tensor.type), tensor.shape);
  }
  const bool gguf = checkpoint.format() == CheckpointFormat::kGguf;
  sheet.add({"checkpoint",
             {{"format", gguf ? "GGUF" : "Hugging Face"},
              number("tensors", static_cast<int64_t>(checkpoint.tensors().size())),
              memory("weights", bytes),
              {"compiles to", name_of(format_of_layers(targets))}}});
  sheet.add(network(architecture));
  sheet.add(text_facts(collect_text(checkpoint, architecture).files, architecture));
  sheet.add(plan_facts(plan_memory(architecture, types, weights_file_bytes(targets),
                                   wishes_of(settings, architecture), available_memory()),
                       settings));
  sheet.add(tensors.section());
}

}  // namespace

int inspect(const SettingsReport& report) {
  const Settings& settings = report.settings;
  if (settings.verb.print_settings) {
    std::fputs(settings_page().c_str(), stdout);
    return 0;
  }
  if (settings.verb.print_api) {
    std::fputs(api_page().c_str(), stdout);
    return 0;
  }
  FactSheet sheet;
  sheet.add(machine(settings));
  sheet.add(all_variants());
  sheet.add(calibration_facts(settings));
  if (const std::string& model = settings.model.model_id; !model.empty()) {
    const fs::path path = local_model(model);
    is_engine_dir(path) ? add_engine(sheet, path, settings) : add_checkpoint(sheet, path, settings);
  }
  std::puts(settings.verb.json ? to_json(sheet.json()).c_str() : sheet.text().c_str());
  return 0;
}

}  // namespace tidemill
