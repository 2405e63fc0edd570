// tidemill bench: which of its modes is meant, and whether the flags go with it.
#include <stdexcept>

#include "base/check.h"
#include "base/option_table.h"
#include "bench_modes.h"
#include "bench_server.h"
#include "verbs.h"

namespace tidemill {
namespace {

// The grid has cells of its own, and kernels have neither prompts nor answers.
void refuse(const SettingsReport& report, std::string_view mode, std::string_view names) {
  for (const std::string& flag : report.flags) {
    if (!contains_word(names, flag)) continue;
    throw std::runtime_error(format("{} does nothing with {}: leave one of them out.", flag, mode));
  }
}

}  // namespace

int bench(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  check_bench_flags(report);
  if (!arguments.load.url.empty()) return bench_server(report);
  if (arguments.kernels) {
    refuse(report, "kernels", "grid concurrency prompt_tokens decode_tokens");
    return bench_kernels(report);
  }
  if (arguments.grid) {
    refuse(report, "grid", "concurrency prompt_tokens");
    return bench_grid(report);
  }
  return bench_cells(report);
}

}  // namespace tidemill
