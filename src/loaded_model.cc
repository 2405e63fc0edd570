#include "loaded_model.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <span>
#include <stdexcept>

#include "base/check.h"
#include "base/digest.h"
#include "base/log.h"
#include "base/text_file.h"
#include "executor/byte_tokenizer.h"
#include "executor/network_runner.h"
#include "executor/script_runner.h"
#include "kernels/element_bytes.h"
#include "kernels/select.h"
#include "machine_calibration.h"
#include "parallel/available_memory.h"
#include "text/text_library.h"

namespace tidemill {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kScriptPrefix = "script:";

int64_t max_model_len(const Settings& settings, const Architecture& architecture) {
  const int64_t asked = settings.executor.max_model_len;
  if (asked == 0) return architecture.max_positions;
  const bool stretches = architecture.rope.scaling == RopeScaling::kDynamic;
  if (asked > architecture.max_positions && !stretches) {
    throw std::runtime_error(format("max_model_len is {}; this model was made for {} positions.",
                                    asked, architecture.max_positions));
  }
  return asked;
}

ModelFacts make_facts(const ModelSettings& settings, const Executor& executor,
                      const std::string& fingerprint) {
  ModelFacts facts{.served_names = served_names(settings),
                   .root = fs::exists(settings.model_id)
                               ? fs::path(settings.model_id).filename().string()
                               : settings.model_id,
                   .limits = executor.limits(),
                   .generation_defaults = JsonObject{},
                   .system_fingerprint = "fp_" + sha256_of(fingerprint).substr(0, 12),
                   .output_formatter = settings.output_formatter,
                   .strict_parameters = settings.strict_parameters};
  facts.name = facts.served_names.front();
  if (const auto& chat = executor.text().chat_template) {
    facts.template_takes_parts = chat->iterates_over_content();
    facts.template_has_developer = chat->mentions_developer();
  }
  return facts;
}

// Before anything of it is allocated: when the machine kills the process, the log says what it
// took.
void say_plan(const MemoryPlan& plan) {
  const auto mebibytes = [](int64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  log_info("memory plan: {:.1f} MiB available; weights {:.1f}, workspace {:.1f}, KV cache {:.1f}",
           mebibytes(plan.available_bytes), mebibytes(plan.weight_bytes),
           mebibytes(plan.workspace_bytes), mebibytes(plan.kv_bytes()));
}

int64_t bytes_of(std::span<const PackedWeight> weights) {
  int64_t bytes = 0;
  for (const PackedWeight& weight : weights) {
    bytes += static_cast<int64_t>(packed_bytes(weight.format, weight.n, weight.k));
  }
  return bytes;
}

// The embedding is left out: a step reads a few rows of it. So is what a draft model reads.
ReadLimits read_limits(const MachineCalibration& machine, std::span<const PackedWeight> weights,
                       const MemoryPlan& plan, int64_t window) {
  const int64_t bytes_per_block = plan.bytes_per_block - plan.wishes.companion.bytes_per_block;
  return {.weight_bytes = bytes_of(weights),
          .kv_bytes_per_token = bytes_per_block / kTokensPerBlock,
          .window = window,
          .bytes_per_second = machine.is_sound() ? machine.numbers->read_by_all : 0.0};
}

// What a step reads: the head, then the layers.
std::vector<PackedWeight> weights_of(const Model& model) {
  std::vector<PackedWeight> weights = {model.head()};
  for (const LayerWeights& layer : model.layers()) {
    for (const PackedWeight& weight : {layer.qkv, layer.output, layer.gate_up, layer.down}) {
      weights.push_back(weight);
    }
  }
  return weights;
}

// As weight_memory says. Weights of an engine that was compiled into memory would be there twice.
void place_weights(const std::string& weight_memory, bool in_memory, const Kernels& kernels,
                   WorkerPool& workers, Model& model) {
  if (weight_memory == "mapped") return;
  const bool given = gives_huge_pages();
  if (weight_memory == "huge_pages" && !given) {
    throw std::runtime_error(
        "weight_memory=huge_pages, but this system gives none: "
        "/sys/kernel/mm/transparent_hugepage/enabled is never, or is missing. Let its "
        "administrator write madvise there, or use weight_memory=auto.");
  }
  if (weight_memory == "huge_pages") return model.copy_weights(kernels, workers);
  if (!given || in_memory) return;
  try {
    model.copy_weights(kernels, workers);
  } catch (const std::bad_alloc&) {
    log_info("weights stay mapped: the system gives no {} bytes for a copy", model.weight_bytes());
  }
}

// With attention, norms and the choice of a token, one more in a step takes longer than what it
// adds to the products. By how much is not measured; it is taken for a quarter.
constexpr double kBesideProducts = 1.25;

// Even where four drafts of five are right.
constexpr double kUselessDraftCost = 0.75;

// What a draft model takes for a token, in steps of the model: as it waits for its weights,
// likewise. Between its steps workers meet as often as between the model's layers; that is the same
// quarter.
double draft_cost(const Model& draft, const Model& model) {
  const auto bytes = static_cast<double>(bytes_of(weights_of(draft)));
  return kBesideProducts * bytes / static_cast<double>(bytes_of(weights_of(model)));
}

// What a calibration is good for: how many tokens a step takes. One that others disturbed tells a
// large model from a small one, and no more: the numbers are those that do well on most machines.
void choose_step_sizes(const MachineCalibration& machine, const Model& model,
                       SchedulerOptions& options) {
  const std::vector<PackedWeight> weights = weights_of(model);
  double free = 0.0;  // unknown
  if (machine.is_sound()) {
    free = std::min<double>(free_tokens(*machine.numbers, weights), 65536);
    options.free_tokens = static_cast<int32_t>(free);
    options.step_growth = product_growth(*machine.numbers, weights);
    for (double& growth : options.step_growth) growth = 1.0 + kBesideProducts * (growth - 1.0);
  }
  if (options.mixed_step_tokens == 0) {
    // Of a prompt's tokens one goes through the head.
    const auto layers = std::span(weights).subspan(1);
    const double of_token = machine.numbers ? seconds_per_token(*machine.numbers, layers) : 0.0;
    options.mixed_step_tokens = mixed_step_tokens(free, of_token);
  }
  options.min_chunk_tokens = chunk_of_mixed_step(options.mixed_step_tokens);
}

void say_calibration(const MachineCalibration& machine, const SchedulerOptions& options) {
  if (!machine.numbers) return log_info("calibration: none ({})", machine.origin);
  if (const auto remark = remark_on(machine)) log_line(remark->level, remark->text);
  std::string growth;
  for (const size_t tokens : {4, 8, 16}) {
    if (tokens > options.step_growth.size()) break;
    growth += format("; {} take {:.2f} of one's time", tokens, options.step_growth[tokens - 1]);
  }
  log_info("calibration ({}): {}; {} free tokens{}", machine.origin, describe(*machine.numbers),
           options.free_tokens, growth);
}

// The server has registered these: /metrics shows them before a model is loaded, too.
void set_memory_metrics(MetricsRegistry& metrics, const MemoryPlan& plan) {
  const std::pair<const char*, int64_t> kinds[] = {
      {"weights", plan.weight_bytes}, {"kv", plan.kv_bytes()}, {"workspace", plan.workspace_bytes}};
  for (const auto& [kind, bytes] : kinds) {
    metrics.gauge("tidemill:memory_bytes", "Memory by what it holds.", {{"kind", kind}})
        .set(static_cast<double>(bytes));
  }
}

// A model's own defaults that the sampler does not know yet are not dropped in silence.
void say_unused_defaults(const JsonValue& defaults) {
  if (!defaults.is_object()) return;
  for (const auto& [name, value] : defaults.object()) {
    constexpr std::string_view kUsed[] = {"temperature", "top_p", "top_k", "min_p",
                                          "repetition_penalty"};
    const bool used = std::find(std::begin(kUsed), std::end(kUsed), name) != std::end(kUsed);
    if (used || !value.is_number()) continue;
    if (value.number() == 0.0) continue;
    log_warning("generation_config.json asks for {} {}, which is not supported yet", name,
                value.number());
  }
}

}  // namespace

std::vector<std::string> served_names(const ModelSettings& settings) {
  std::vector<std::string> names = settings.served_names;
  if (names.empty()) {
    const fs::path path = fs::path(settings.model_id).lexically_normal();
    const fs::path last = path.has_filename() ? path.filename() : path.parent_path().filename();
    names = {settings.model_name, last.string()};
    // A path of this machine is nobody else's business.
    if (path.is_relative()) names.insert(names.begin() + 1, settings.model_id);
  }
  std::vector<std::string> unique;
  for (const std::string& name : names) {
    if (!name.empty() && std::find(unique.begin(), unique.end(), name) == unique.end()) {
      unique.push_back(name);
    }
  }
  return unique;
}

MemoryWishes memory_wishes(const Settings& settings, const Architecture& architecture) {
  const SchedulerOptions& scheduler = settings.executor.scheduler;
  return {.kv_cache_bytes = settings.model.kv_cache_bytes,
          .max_sequences = scheduler.max_sequences,
          .limits = {.max_model_len = max_model_len(settings, architecture),
                     .max_step_tokens = scheduler.max_step_tokens,
                     .max_score_rows = scheduler.most_score_rows()}};
}

OpenOptions engine_options(const ModelSettings& settings) {
  return {.dtype = settings.dtype, .quantize = settings.quantize, .cache_dir = settings.cache_dir};
}

ModelOptions model_options(const ModelSettings& settings) {
  return {.activation_bits = settings.activations == "int16" ? 16 : 8,
          .int8_cache = settings.kv_cache_dtype == "int8"};
}

TextParts make_text_parts(const TextFiles& files, const Architecture& architecture,
                          const ModelSettings& settings) {
  TextParts parts{.end_ids = architecture.eos_token_ids, .begin_id = architecture.bos_token_id};
  if (!files.tokenizer_json || !kHasTextLibrary) return parts;
  parts.tokenizer = std::make_shared<const Tokenizer>(*files.tokenizer_json);
  std::optional<std::string> source = files.chat_template;
  if (!settings.chat_template.empty()) source = read_text_file(settings.chat_template);
  if (source) {
    parts.chat_template = std::make_shared<const ChatTemplate>(*source, files.special_tokens,
                                                               settings.template_limits);
  }
  return parts;
}

void LoadedModel::load_script(const Settings& settings, MetricsRegistry& metrics) {
  Script script = read_script(settings.model.model_id.substr(kScriptPrefix.size()));
  if (settings.executor.max_model_len != 0 || settings.model.kv_cache_bytes != 0) {
    log_warning(
        "a script has a max_model_len ({}) and KV blocks ({}) of its own: max_model_len and "
        "kv_cache_bytes have no effect",
        script.max_model_len, script.num_blocks);
  }
  heap_room_ = available_memory();
  ExecutorOptions options = settings.executor;
  options.max_model_len = script.max_model_len;
  options.scheduler.groups = {{.num_blocks = script.num_blocks}};
  TextParts text{.tokenizer = std::make_shared<const Tokenizer>(byte_tokenizer_json()),
                 .chat_template = std::make_shared<const ChatTemplate>(
                     byte_chat_template(), JsonObject{}, settings.model.template_limits),
                 .end_ids = {kScriptEndId}};
  if (!settings.model.draft_model.empty()) {
    throw std::runtime_error("a script has no draft model. Leave speculative_draft_model out.");
  }
  executor_ =
      std::make_unique<Executor>(std::make_unique<ScriptRunner>(std::move(script)), std::move(text),
                                 options, metrics, served_names(settings.model).front());
  facts_ = make_facts(settings.model, *executor_, settings.model.model_id);
  facts_.chat_template = byte_chat_template();
}

void LoadedModel::load_network(const Settings& settings, WorkerPool& workers,
                               MetricsRegistry& metrics, const Progress& progress) {
  const OpenedEngine opened =
      open_engine(settings.model.model_id, engine_options(settings.model), workers, progress);
  const fs::path& engine = opened.dir;
  progress("load", 0);
  const Kernels& kernels = select_kernels(settings.model.isa);
  model_ = std::make_unique<Model>(engine, model_options(settings.model));
  const Architecture& architecture = model_->architecture();
  const TextFiles files = read_text_files(engine);
  MemoryWishes wishes = memory_wishes(settings, architecture);
  draft_ = DraftModel::load(settings, *model_, files, wishes, workers, progress);
  if (draft_ != nullptr) wishes.companion = draft_->memory();
  const DecoderLimits& limits = wishes.limits;
  // Weights on a disk are in the page cache, which counts as room; in memory, they are taken.
  const bool in_memory = opened.in_memory != nullptr;
  const bool are_copied = settings.model.weight_memory == "huge_pages";
  int64_t taken = in_memory && !are_copied ? model_->weight_bytes() : 0;
  if (draft_ != nullptr && draft_->in_memory() && !are_copied) {
    taken += draft_->memory().weight_bytes;
  }
  const MemoryPlan plan = plan_memory(architecture, model_->compute_types(), model_->weight_bytes(),
                                      wishes, available_memory() + taken);
  if (const std::string refusal = plan.refusal(); !refusal.empty()) {
    throw std::runtime_error(refusal);
  }
  say_plan(plan);
  heap_room_ = plan.available_bytes - plan.weight_bytes - plan.workspace_bytes - plan.kv_bytes();
  set_memory_metrics(metrics, plan);
  if (settings.model.activations == "int16" && model_->compute_types().integer_parts == 0) {
    log_warning(
        "activations=int16 has no effect: these weights are floats. It is for weights of int8 and "
        "int4; set quantize, or leave activations out.");
  }
  place_weights(settings.model.weight_memory, in_memory, kernels, workers, *model_);
  if (draft_ != nullptr) {
    place_weights(settings.model.weight_memory, draft_->in_memory(), kernels, workers,
                  draft_->model());
  }
  ExecutorOptions options = settings.executor;
  options.max_model_len = limits.max_model_len;
  options.kv_cache_dtype = settings.model.kv_cache_dtype;
  const MachineCalibration machine = machine_calibration(settings.model, kernels, workers);
  choose_step_sizes(machine, *model_, options.scheduler);
  say_calibration(machine, options.scheduler);
  options.read = read_limits(machine, weights_of(*model_), plan, architecture.sliding_window);
  options.scheduler.groups = {
      {.num_blocks = plan.num_blocks, .window = architecture.sliding_window}};
  options.scheduler.window = architecture.sliding_window;
  std::unique_ptr<DraftNetwork> drafts;
  if (draft_ != nullptr) {
    options.scheduler.draft_model_cost = draft_cost(draft_->model(), *model_);
    if (options.scheduler.draft_model_cost >= kUselessDraftCost) {
      log_warning(
          "the draft model takes {:.2f} of the model's time for a token: that gains nothing, and "
          "it will make no drafts. Name a smaller one, or set speculative_draft_quantize",
          options.scheduler.draft_model_cost);
    }
    options.scheduler.draft_model_len = draft_->max_model_len();
    drafts = draft_->network(kernels, workers, plan.num_blocks, architecture.vocab_size);
  }
  executor_ = std::make_unique<Executor>(
      std::make_unique<NetworkRunner>(kernels, workers, *model_, limits, plan.num_blocks,
                                      /*watches_cores=*/options.max_step_ms > 0, std::move(drafts)),
      make_text_parts(files, architecture, settings.model), options, metrics,
      served_names(settings.model).front());
  facts_ = make_facts(settings.model, *executor_,
                      format("{} {} {}{}", model_->manifest().source_digest, kernels.description,
                             kEngineVersion, model_->compute_types().int8_cache ? " int8 KV" : ""));
  facts_.special_tokens = files.special_tokens;
  facts_.chat_template = settings.model.chat_template.empty()
                             ? files.chat_template
                             : read_text_file(settings.model.chat_template);
  if (settings.model.generation_config != "none") {
    facts_.generation_defaults = files.generation_defaults;
    say_unused_defaults(facts_.generation_defaults);
  }
  log_info(
      "{}: {} layers, {} threads, {}; {} tokens of context, KV cache of {} blocks ({:.0f} MiB, {})",
      facts_.name, architecture.num_layers, workers.num_threads(), kernels.name,
      limits.max_model_len, plan.num_blocks,
      static_cast<double>(plan.kv_bytes()) / (1024.0 * 1024.0), name_of(plan.cache));
}

std::unique_ptr<LoadedModel> LoadedModel::load(const Settings& settings, WorkerPool& workers,
                                               MetricsRegistry& metrics, const Progress& progress) {
  if (settings.model.model_id.empty()) {
    throw std::runtime_error(
        "no model is named, and there is none in this folder or in /opt/ml/model. Name one: a "
        "checkpoint folder, a GGUF file or an engine directory.");
  }
  if (settings.model.draft_model.empty() && !settings.model.draft_quantize.empty()) {
    throw std::runtime_error(
        format("speculative_draft_quantize is {}, and there is no speculative_draft_model. Name "
               "one, or leave it out.",
               settings.model.draft_quantize));
  }
  std::unique_ptr<LoadedModel> loaded(new LoadedModel());
  if (settings.model.model_id.starts_with(kScriptPrefix)) {
    loaded->load_script(settings, metrics);
  } else {
    loaded->load_network(settings, workers, metrics, progress);
  }
  loaded->facts_.lmi = settings.server.lmi;
  return loaded;
}

}  // namespace tidemill
