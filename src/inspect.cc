// tidemill inspect: what this machine can run, and what a model holds.
#include <cstdio>
#include <stdexcept>

#include "base/check.h"
#include "checkpoint/checkpoint.h"
#include "kernels/select.h"
#include "memory_plan.h"
#include "model/load.h"
#include "open_model.h"
#include "options.h"
#include "verbs.h"

namespace tidemill {
namespace {

void print_machine(const Settings& settings) {
  std::printf("variants\n");
  for (const Variant& variant : variants()) {
    std::printf("  %-10s %s%s%s\n", variant.kernels->name, variant.kernels->description,
                variant.why_not.empty() ? "" : "; not here: ", variant.why_not.c_str());
  }
  std::printf("chosen       %s\n", select_kernels(settings.model.isa).name);
  const std::vector<int> cores = usable_cores();
  std::printf("workers      %zu (one per usable core)\n", cores.size());
  std::printf("memory       %.1f MiB available\n",
              static_cast<double>(available_memory()) / (1024.0 * 1024.0));
}

void print_architecture(const Architecture& a) {
  std::printf(
      "family       %s\nlayers       %lld\nhidden       %lld\nheads        %lld, %lld for "
      "keys and values, of %lld\nfeed-forward %lld\nvocabulary   %lld\npositions    %lld\n",
      a.family.c_str(), static_cast<long long>(a.num_layers), static_cast<long long>(a.hidden_size),
      static_cast<long long>(a.num_heads), static_cast<long long>(a.num_kv_heads),
      static_cast<long long>(a.head_dim), static_cast<long long>(a.intermediate_size),
      static_cast<long long>(a.vocab_size), static_cast<long long>(a.max_positions));
}

void print_engine(const std::filesystem::path& dir, const Settings& settings) {
  const Model model(dir);
  const Manifest& manifest = model.manifest();
  std::printf("engine       %s, from %s\n", std::string(name_of(manifest.format)).c_str(),
              manifest.source_name.c_str());
  print_architecture(model.architecture());
  const SchedulerOptions& scheduler = settings.executor.scheduler;
  const MemoryPlan plan =
      plan_memory(model.architecture(), model.activation_type(), model.weight_bytes(),
                  {.kv_cache_bytes = settings.model.kv_cache_bytes,
                   .max_sequences = scheduler.max_sequences,
                   .limits = {.max_model_len = model.architecture().max_positions,
                              .max_step_tokens = scheduler.max_step_tokens,
                              .max_score_rows = scheduler.max_sequences}});
  std::printf("memory plan\n%s", plan.table().c_str());
}

void print_checkpoint(const std::filesystem::path& path) {
  const Checkpoint checkpoint = Checkpoint::open(path);
  const bool gguf = checkpoint.format() == CheckpointFormat::kGguf;
  std::printf("checkpoint   %s, %zu tensors\n", gguf ? "GGUF" : "Hugging Face",
              checkpoint.tensors().size());
  print_architecture(read_architecture(checkpoint.config()));
  for (const StoredTensor& tensor : checkpoint.tensors()) {
    std::string shape;
    for (const int64_t size : tensor.shape)
      shape += (shape.empty() ? "" : " x ") + std::to_string(size);
    std::printf("  %-52s %-8s %s\n", tensor.name.c_str(), std::string(name_of(tensor.type)).c_str(),
                shape.c_str());
  }
}

}  // namespace

int inspect(const SettingsReport& report) {
  if (report.settings.verb.print_settings) {
    std::fputs(settings_page().c_str(), stdout);
    return 0;
  }
  print_machine(report.settings);
  const std::string& model = report.settings.model.model_id;
  if (model.empty()) return 0;
  const std::filesystem::path path = local_model(model);
  is_engine_dir(path) ? print_engine(path, report.settings) : print_checkpoint(path);
  return 0;
}

}  // namespace tidemill
