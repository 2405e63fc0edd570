#include "measure/bench_document.h"

#include <fmt/core.h>

#include "kernels/element_bytes.h"
#include "kernels/select.h"
#include "measure/machine_facts.h"

namespace tidemill {
namespace {

JsonValue to_json(const Spread& spread) {
  return JsonObject{{"min", spread.min}, {"median", spread.median}, {"max", spread.max}};
}

JsonValue probed_operations(const Figures& figures) {
  const auto rate = [](double operations) {
    return operations == 0.0 ? JsonValue{} : JsonValue(operations * 1e-9);
  };
  const Operations& operations = figures.probe_operations_per_second;
  return JsonObject{{"body", rate(operations.body)},
                    {"head", rate(operations.head)},
                    {"attention", rate(operations.attention)}};
}

JsonValue model_json(const Model& model, const std::string& name) {
  const ModelCost cost = cost_of(model.manifest(), model.compute_types());
  const Architecture& a = model.architecture();
  return JsonObject{{"name", name},
                    {"format", name_of(model.manifest().format)},
                    {"head_format", name_of(model.head().format)},
                    {"layers", a.num_layers},
                    {"hidden", a.hidden_size},
                    {"heads", a.num_heads},
                    {"kv_heads", a.num_kv_heads},
                    {"head_dim", a.head_dim},
                    {"vocabulary", a.vocab_size},
                    {"weight_bytes_per_step", cost.weight_bytes},
                    {"kv_format", name_of(model.compute_types().cache())},
                    {"kv_bytes_per_token", cost.kv_bytes},
                    {"operations_per_token", cost.body_operations},
                    {"head_operations", cost.head_operations},
                    {"attention_operations_per_position", cost.attention_operations}};
}

// "0.93 (0.90-0.95)"
std::string shown(const Spread& share) {
  return fmt::format("{:.2f} ({:.2f}-{:.2f})", share.median, share.min, share.max);
}

std::string arithmetic_of(const Figures& figures) {
  if (!figures.share_of_arithmetic) return "-";
  return fmt::format("{:.2f}", figures.share_of_arithmetic->median);
}

std::string rounds_of(const Figures& figures) {
  return fmt::format("{}/{}/{}", figures.rounds, figures.dropped_rounds, figures.disturbed_rounds);
}

constexpr char kLegend[] =
    "of memory: what must be read, at the speed of a plain read, over the time; of arith.: the "
    "same\n"
    "of operations, at the speed of multiplications alone; of limit: the greater of the two, with\n"
    "its least and most. rounds: all / dropped (probes differ) / with cores that others used\n";

}  // namespace

JsonValue to_json(const Figures& f, bool has_limit) {
  JsonObject out{{"tokens_per_second", to_json(f.tokens_per_second)},
                 {"call_ms", to_json(f.call_ms)},
                 {"probe", JsonObject{{"gb_per_second", to_json(f.probe_gb_per_second)},
                                      {"gflop_per_second", probed_operations(f)}}},
                 {"rounds", f.rounds},
                 {"dropped_rounds", f.dropped_rounds},
                 {"disturbed_rounds", f.disturbed_rounds},
                 {"cpu_share", f.cpu_share}};
  if (has_limit) {
    out.emplace_back("gb_per_second", to_json(f.gb_per_second));
    out.emplace_back("gflop_per_second", to_json(f.gflop_per_second));
    out.emplace_back("share_of_memory", to_json(f.share_of_memory));
    out.emplace_back("share_of_arithmetic",
                     f.share_of_arithmetic ? to_json(*f.share_of_arithmetic) : JsonValue{});
    out.emplace_back("share", to_json(f.share));
    out.emplace_back("bound_by", f.bound_by_memory ? "memory" : "arithmetic");
  }
  return out;
}

BenchDocument::BenchDocument(std::string_view kind, const Kernels& kernels, int threads,
                             const Model& model, const std::string& model_name)
    : members_{{"schema", std::string(kBenchSchema)},
               {"kind", std::string(kind)},
               {"date", utc_now()},
               {"program", program_json()},
               {"machine", machine_json(kernels, threads)},
               {"model", model_json(model, model_name)}} {}

void BenchDocument::set_limits(int64_t max_model_len, int64_t max_step_tokens, int64_t kv_blocks) {
  members_.emplace_back("limits", JsonObject{{"max_model_len", max_model_len},
                                             {"max_step_tokens", max_step_tokens},
                                             {"kv_blocks", kv_blocks}});
}

void BenchDocument::add(const BenchCell& cell) {
  JsonValue json = to_json(cell.figures, true);
  JsonObject out{{"phase", cell.phase},
                 {"concurrency", cell.concurrency},
                 {"context", cell.context},
                 {"mean_context", cell.mean_context}};
  for (JsonMember& member : json.object()) out.push_back(std::move(member));
  cells_.emplace_back(std::move(out));
}

void BenchDocument::add(const KernelLine& line) {
  JsonValue json = to_json(line.figures, line.has_limit);
  JsonObject out{{"kernel", line.kernel},
                 {"format", line.format.empty() ? "f32" : line.format},
                 {"rows", line.rows}};
  if (line.context > 0) out.emplace_back("context", line.context);
  for (JsonMember& member : json.object()) out.push_back(std::move(member));
  kernels_.emplace_back(std::move(out));
}

void BenchDocument::add(const StepRest& rest) {
  JsonArray parts;
  for (const StepPart& part : rest.parts) {
    parts.push_back(JsonObject{{"kernel", part.kernel}, {"times", part.times}, {"us", part.us}});
  }
  rests_.push_back(JsonObject{{"sequences", rest.sequences},
                              {"context", rest.context},
                              {"us", rest.us()},
                              {"limit_us", rest.limit_us},
                              {"share", rest.share()},
                              {"meetings", rest.meetings},
                              {"meeting_us", rest.meeting_us},
                              {"parts", std::move(parts)}});
}

void BenchDocument::add(const LeftOut& cell) {
  left_out_.push_back(JsonObject{{"phase", cell.phase},
                                 {"concurrency", cell.concurrency},
                                 {"context", cell.context},
                                 {"reason", cell.reason}});
}

std::string BenchDocument::json() const {
  JsonObject out = members_;
  out.emplace_back("cells", cells_);
  out.emplace_back("kernels", kernels_);
  out.emplace_back("rest_of_steps", rests_);
  out.emplace_back("left_out", left_out_);
  return to_json(JsonValue(std::move(out)));
}

std::string cell_heading() {
  return fmt::format("{}{:<8} {:>9} {:>7} {:>10} {:>9} {:>10} {:>9} {:>9} {:>18} {:>10}", kLegend,
                     "phase", "sequences", "tokens", "tokens/s", "step ms", "probe GB/s",
                     "of memory", "of arith.", "of limit", "rounds");
}

std::string cell_line(const BenchCell& cell) {
  const Figures& f = cell.figures;
  return fmt::format("{:<8} {:>9} {:>7} {:>10.1f} {:>9.3f} {:>10.1f} {:>9.2f} {:>9} {:>18} {:>10}",
                     cell.phase, cell.concurrency, cell.context, f.tokens_per_second.median,
                     f.call_ms.median, f.probe_gb_per_second.median, f.share_of_memory.median,
                     arithmetic_of(f), shown(f.share), rounds_of(f));
}

std::string left_out_line(const LeftOut& cell) {
  return fmt::format("{:<8} {:>9} {:>7} left out: {}", cell.phase, cell.concurrency, cell.context,
                     cell.reason);
}

std::string kernel_heading() {
  return fmt::format("{}{:<23} {:<14} {:>4} {:>10} {:>8} {:>8} {:>9} {:>9} {:>18} {:>10}", kLegend,
                     "kernel", "format", "rows", "us", "GB/s", "GFLOP/s", "of memory", "of arith.",
                     "of limit", "rounds");
}

std::string kernel_line(const KernelLine& line) {
  const Figures& f = line.figures;
  const std::string name =
      line.context > 0 ? fmt::format("{} of {}", line.kernel, line.context) : line.kernel;
  const std::string begin =
      fmt::format("{:<23} {:<14} {:>4} {:>10.2f}", name, line.format.empty() ? "f32" : line.format,
                  line.rows, f.call_ms.median * 1e3);
  if (!line.has_limit) {
    return fmt::format("{} {:>8} {:>8} {:>9} {:>9} {:>18} {:>10}", begin, "-", "-", "-", "-", "-",
                       rounds_of(f));
  }
  return fmt::format("{} {:>8.1f} {:>8.1f} {:>9.2f} {:>9} {:>18} {:>10}", begin,
                     f.gb_per_second.median, f.gflop_per_second.median, f.share_of_memory.median,
                     arithmetic_of(f), shown(f.share), rounds_of(f));
}

std::string rest_lines(const StepRest& rest) {
  std::string parts;
  for (const StepPart& part : rest.parts) {
    parts += fmt::format("{}{} x {} {:.2f}", parts.empty() ? "" : ", ", part.times, part.kernel,
                         part.us);
  }
  return fmt::format(
      "a decode step of {} sequences behind {} tokens: {:.1f} us beside products and attention, "
      "{:.3f} of\nthe {:.0f} us that its limit is ({}); {} meetings in all, {:.2f} us each: {:.0f} "
      "us",
      rest.sequences, rest.context, rest.us(), rest.share(), rest.limit_us, parts, rest.meetings,
      rest.meeting_us, static_cast<double>(rest.meetings) * rest.meeting_us);
}

}  // namespace tidemill
