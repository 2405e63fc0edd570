#include "measure/step_rest.h"

#include <algorithm>

#include "base/check.h"
#include "measure/step_work.h"

namespace tidemill {
namespace {

const KernelLine* find(std::span<const KernelLine> lines, std::string_view kernel, int64_t rows) {
  const auto line = std::find_if(lines.begin(), lines.end(), [&](const KernelLine& each) {
    return each.kernel == kernel && (rows == 0 || each.rows == rows);
  });
  return line == lines.end() ? nullptr : &*line;
}

double us_of(const KernelLine& line) { return line.figures.call_ms.median * 1e3; }

double median_of(std::vector<double> values) { return spread_of(std::move(values)).median; }

}  // namespace

double StepRest::us() const {
  double sum = 0.0;
  for (const StepPart& part : parts) sum += static_cast<double>(part.times) * part.us;
  return sum;
}

StepRest rest_of_step(const Model& model, std::span<const KernelLine> lines, int64_t sequences,
                      int64_t context) {
  const auto layers = static_cast<int64_t>(model.layers().size());
  const LayerWeights& layer = model.layers().front();
  StepRest rest{.sequences = sequences, .context = context};
  std::vector<double> bytes, body, head, attention;
  const auto add = [&](std::string_view kernel, int64_t times, int64_t rows) {
    const KernelLine* line = find(lines, kernel, rows);
    CHECK(line != nullptr, "{} of {} rows was not measured", kernel, rows);
    rest.parts.push_back({.kernel = line->kernel, .times = times, .us = us_of(*line)});
    const Operations& probe = line->figures.probe_operations_per_second;
    bytes.push_back(line->figures.probe_gb_per_second.median * 1e9);
    body.push_back(probe.body);
    head.push_back(probe.head);
    attention.push_back(probe.attention);
  };
  add("section", 1, 0);
  add("plan_attention", 1, sequences);
  add("embed", 1, sequences);
  add("rms_norm", 2 * layers, sequences);
  add("rotate_and_store", layers, sequences);
  if (is_integer(layer.output.format)) add("quantize_attended", layers, sequences);
  if (is_integer(layer.down.format)) add("quantize", layers, sequences);
  add("final_norm", 1, sequences);
  add("choose_greedy", 1, sequences);

  constexpr int64_t kProductsOfALayer = 4;
  rest.meetings = (kProductsOfALayer + 1) * layers + 1;  // with attention, and the head
  for (const StepPart& part : rest.parts) {
    const bool meets = part.kernel != "section" && part.kernel != "choose_greedy";
    if (meets) rest.meetings += part.times;
  }
  if (const KernelLine* barrier = find(lines, "barrier", 0)) rest.meeting_us = us_of(*barrier);

  const ModelCost cost = cost_of(model.manifest(), model.compute_types());
  const Work work =
      decode_work(cost, static_cast<double>(sequences), static_cast<double>(context), 1);
  const Rates rates{
      .bytes = median_of(bytes),
      .operations = {
          .body = median_of(body), .head = median_of(head), .attention = median_of(attention)}};
  rest.limit_us = limit_of(work, rates).seconds() * 1e6;
  return rest;
}

}  // namespace tidemill
