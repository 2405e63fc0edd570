// tidemill bench --kernels: what a step is made of, each part by itself.
#include <cstdio>
#include <stdexcept>

#include "bench_modes.h"
#include "kernels/arithmetic_probe.h"
#include "kernels/select.h"
#include "loaded_model.h"
#include "measure/bench_document.h"
#include "measure/kernel_table.h"
#include "open_model.h"
#include "progress_bar.h"

namespace tidemill {

int bench_kernels(const SettingsReport& report) {
  const Settings& settings = report.settings;
  if (settings.model.model_id.starts_with("script:")) {
    throw std::runtime_error("a script has nothing to measure.");
  }
  WorkerPool workers(settings.workers);
  ProgressBar bar(stderr);
  const OpenedEngine opened =
      open_engine(settings.model.model_id, engine_options(settings.model), workers, bar.callback());
  bar.finish();
  const Model model(opened.dir, model_options(settings.model));
  const Kernels& kernels = select_kernels(settings.model.isa);
  ArithmeticProbe arithmetic(kernels, workers);
  MachineProbe probe(workers,
                     [&](const PackedFormat& format) { return arithmetic.measure(format); });
  probe.set_model(model);
  BenchDocument document("kernels", kernels, workers.num_threads(), model,
                         served_names(settings.model).front());
  const bool json = settings.verb.json;
  if (!json) {
    std::printf("%s, %d threads, %s; medians of at most %d rounds\n%s\n", kernels.name,
                workers.num_threads(), name_of(model.manifest().format).c_str(), kMaxRounds,
                kernel_heading().c_str());
    std::fflush(stdout);
  }
  const KernelTableOptions options{.line_seconds = settings.verb.cell_seconds};
  const auto show = [&](const KernelLine& line) {
    document.add(line);
    if (json) return;
    std::puts(kernel_line(line).c_str());
    std::fflush(stdout);
  };
  for (const StepRest& rest : measure_kernels(kernels, model, workers, probe, options, show)) {
    document.add(rest);
    if (!json) std::puts(rest_lines(rest).c_str());
  }
  if (json) std::puts(document.json().c_str());
  return 0;
}

}  // namespace tidemill
