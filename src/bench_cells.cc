// tidemill bench, offline: cells of whole steps, one after another, as lines or as one document.
#include <algorithm>
#include <cstdio>
#include <map>
#include <stdexcept>

#include "base/check.h"
#include "base/log.h"
#include "bench_modes.h"
#include "bench_offline.h"
#include "bench_server.h"
#include "measure/bench_document.h"
#include "measure/kernel_table.h"

namespace tidemill {
namespace {

constexpr int64_t kMaxConcurrency = 1024;
constexpr std::string_view kDefaultConcurrency = "1,4,16";
constexpr int64_t kMinSteps = 4;  // of a round: fewer say nothing beside a probe

// Of docs/performance.md.
constexpr int64_t kGridPrompts[] = {128, 512, 2048, 8192};
constexpr int64_t kGridConcurrency[] = {1, 4, 16, 64};
constexpr int64_t kGridContexts[] = {128, 1024, 4096};

class Cells {
 public:
  Cells(const SettingsReport& report, std::string_view kind, int64_t most_sequences)
      : arguments_(report.settings.verb),
        bench_(report.settings, most_sequences),
        document_(kind, bench_.kernels(), bench_.num_threads(), bench_.model(),
                  served_names(report.settings.model).front()) {
    document_.set_limits(bench_.max_model_len(), bench_.max_step_tokens(), bench_.num_blocks());
    if (arguments_.json) return;
    std::printf("%s, %d threads, %s; medians of at most %d rounds\n%s\n", bench_.kernels().name,
                bench_.num_threads(), name_of(bench_.model().manifest().format).c_str(), kMaxRounds,
                cell_heading().c_str());
    std::fflush(stdout);
  }

  void prefill(int64_t count, int64_t prompt_tokens);
  void decode(int64_t count, int64_t context);
  // Of the grid: what takes longer than cell_seconds before its first round is left out.
  void leave_out_slow_ones() { leaves_out_slow_ones_ = true; }
  // The longest prompt up to `wanted` that leaves room for a token; nothing when it is far longer.
  int64_t fitting(int64_t wanted) const {
    return wanted == bench_.max_model_len() ? wanted - 1 : wanted;
  }

  int finish() {
    if (arguments_.json) std::puts(document_.json().c_str());
    return num_measured_ > 0 ? 0 : 1;
  }

 private:
  void show(const BenchCell& cell);
  void leave_out(const LeftOut& cell);
  std::string too_slow(int64_t tokens) const;

  const VerbArguments& arguments_;
  OfflineBench bench_;
  BenchDocument document_;
  bool leaves_out_slow_ones_ = false;
  int64_t num_measured_ = 0;
  double prefill_rate_ = 0.0;  // tokens per second, of the last prefill cell
};

void Cells::show(const BenchCell& cell) {
  document_.add(cell);
  ++num_measured_;
  if (arguments_.json) {
    log_info("{} of {} x {} tokens: {:.1f} tokens/s, {:.2f} of the limit", cell.phase,
             cell.concurrency, cell.context, cell.figures.tokens_per_second.median,
             cell.figures.share.median);
  } else {
    std::puts(cell_line(cell).c_str());
    std::fflush(stdout);
  }
}

void Cells::leave_out(const LeftOut& cell) {
  document_.add(cell);
  if (arguments_.json) {
    log_warning("{} of {} x {} tokens is left out: {}", cell.phase, cell.concurrency, cell.context,
                cell.reason);
  } else {
    std::puts(left_out_line(cell).c_str());
    std::fflush(stdout);
  }
}

std::string Cells::too_slow(int64_t tokens) const {
  if (!leaves_out_slow_ones_ || prefill_rate_ == 0.0) return "";
  const double seconds = static_cast<double>(tokens) / prefill_rate_;
  if (seconds <= arguments_.cell_seconds) return "";
  return format("its prompts alone take some {:.0f} s; cell_seconds is {:.0f}", seconds,
                arguments_.cell_seconds);
}

void Cells::prefill(int64_t count, int64_t prompt_tokens) {
  std::string why = bench_.why_not_prefill(count, prompt_tokens);
  if (why.empty()) why = too_slow((kMinRounds + 1) * count * prompt_tokens);
  if (!why.empty()) return leave_out({"prefill", count, prompt_tokens, why});
  const Figures figures = figures_of(bench_.prefill(count, prompt_tokens, arguments_.cell_seconds));
  prefill_rate_ = figures.tokens_per_second.median;
  show({.phase = "prefill",
        .concurrency = count,
        .context = prompt_tokens,
        .mean_context = static_cast<double>(prompt_tokens + 1) / 2.0,
        .figures = figures});
}

void Cells::decode(int64_t count, int64_t context) {
  const int64_t steps = std::max(kMinSteps, arguments_.decode_tokens / kMaxRounds);
  std::string why = bench_.why_not_decode(count, context, steps);
  if (why.empty()) why = too_slow(count * context);
  if (!why.empty()) return leave_out({"decode", count, context, why});
  const DecodeRounds measured = bench_.decode(count, context, steps, arguments_.cell_seconds);
  if (measured.rounds.empty()) {
    return leave_out({"decode", count, context,
                      format("its sequences reached max_model_len {} before a round was over",
                             bench_.max_model_len())});
  }
  show({.phase = "decode",
        .concurrency = count,
        .context = context,
        .mean_context = measured.mean_context,
        .figures = figures_of(measured.rounds)});
}

}  // namespace

int bench_cells(const SettingsReport& report) {
  const VerbArguments& arguments = report.settings.verb;
  const std::string_view asked = arguments.concurrency;
  const std::vector<int64_t> counts =
      concurrencies(asked.empty() ? kDefaultConcurrency : asked, kMaxConcurrency);
  Cells cells(report, "cells", *std::max_element(counts.begin(), counts.end()));
  for (const int64_t count : counts) {
    cells.prefill(count, arguments.prompt_tokens);
    cells.decode(count, arguments.prompt_tokens);
  }
  return cells.finish();
}

int bench_grid(const SettingsReport& report) {
  Cells cells(report, "grid",
              *std::max_element(std::begin(kGridConcurrency), std::end(kGridConcurrency)));
  cells.leave_out_slow_ones();
  for (const int64_t prompt : kGridPrompts) cells.prefill(1, cells.fitting(prompt));
  for (const int64_t context : kGridContexts) {
    for (const int64_t count : kGridConcurrency) cells.decode(count, context);
  }
  return cells.finish();
}

}  // namespace tidemill
